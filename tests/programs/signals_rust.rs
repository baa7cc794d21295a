// Ends by a panic: in a destructor while another one unwinds, or across extern "C".
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("second panic in drop");
    }
}

#[inline(never)]
fn index(values: &[i32], at: usize) -> i32 {
    values[at]
}

extern "C" fn callback(at: usize) -> i32 {
    index(&[1, 2, 3], at)
}

fn main() {
    let scene = std::env::args().nth(1).unwrap_or_default();
    let count = std::env::args().count();
    if scene == "drop" {
        let _bad = Bad;
        panic!("first panic, {} arguments", count);
    }
    if scene == "extern" {
        println!("{}", callback(count + 5));
    }
    if scene == "abort" {
        std::process::abort();
    }
    if scene == "recurse" {
        println!("{}", recurse(0));
    }
    if scene == "no_memory" {
        let values: Vec<u8> = Vec::with_capacity(1 << (44 + count));
        println!("{}", std::hint::black_box(values).capacity());
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 40]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + room[3] }
}
