// Rust's locks record no holder: threads "a" and "b" hold one each and want the other's.
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, RwLock};
use std::thread;
use std::time::Duration;

static A: Mutex<u64> = Mutex::new(1);
static B: Mutex<u64> = Mutex::new(2);
static NEVER: Condvar = Condvar::new();

#[inline(never)]
fn transfer(from: &Mutex<u64>, to: &Mutex<u64>, both: &Barrier) -> u64 {
    let mut source = from.lock().unwrap();
    *source -= 1;
    both.wait();
    let mut target = to.lock().unwrap();
    *target += *source;
    *target
}

#[inline(never)]
fn update(mine: &RwLock<u64>, other: &RwLock<u64>, both: &Barrier) -> u64 {
    let reading = mine.read().unwrap();
    both.wait();
    let mut writing = other.write().unwrap();
    *writing += *reading;
    *writing
}

#[inline(never)]
fn gave_back(x: &Mutex<u64>, y: &Mutex<u64>, table: &RwLock<u64>) -> u64 {
    let guard = x.lock().unwrap();
    let value = *guard;
    drop(guard);
    {
        let mut inner = y.lock().unwrap();
        *inner += value;
    }
    {
        let reading = table.read().unwrap();
        eprint!("{}", if *reading + value == 0 { "!" } else { "" });
    }
    thread::sleep(Duration::from_secs(1000));
    let last = *x.lock().unwrap();
    last
}

#[inline(never)]
fn waits_for_condition(lock: &Mutex<u64>) -> u64 {
    let guard = lock.lock().unwrap();
    let guard = NEVER.wait(guard).unwrap();
    *guard
}

/// Holds B, taken and leaked by a function that has returned.
#[inline(never)]
fn leak() {
    std::mem::forget(B.lock().unwrap());
}

#[inline(never)]
fn end(guard: &mut Option<MutexGuard<u64>>) {
    if let Some(guard) = guard.take() {
        drop(guard)
    }
}

#[inline(never)]
fn run(action: &mut dyn FnMut()) {
    action()
}

/// Each gives B back without a trace in the variable that had its guard.
#[inline(never)]
fn gave_back_by_take() -> u64 {
    let mut guard = Some(B.lock().unwrap());
    **guard.as_mut().unwrap() += 1;
    end(&mut guard);
    thread::sleep(Duration::from_secs(1000));
    guard.map_or(0, |guard| *guard)
}

#[inline(never)]
fn gave_back_by_closure() -> u64 {
    let mut guard = Some(B.lock().unwrap());
    **guard.as_mut().unwrap() += 1;
    run(&mut || drop(guard.take()));
    thread::sleep(Duration::from_secs(1000));
    guard.map_or(0, |guard| *guard)
}

fn one_holder(gave_back: Box<dyn FnOnce() -> u64 + Send>) {
    spawn("b", gave_back);
    spawn("a", || {
        leak();
        thread::sleep(Duration::from_secs(1000));
        0
    });
    spawn("w", || *B.lock().unwrap());
    println!("ready");
    thread::sleep(Duration::from_secs(1000));
}

fn spawn<F: FnOnce() -> u64 + Send + 'static>(name: &str, body: F) {
    thread::Builder::new().name(name.into()).spawn(body).unwrap();
    thread::sleep(Duration::from_millis(50));
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("take") => return one_holder(Box::new(|| gave_back_by_take())),
        Some("closure") => return one_holder(Box::new(|| gave_back_by_closure())),
        _ => {}
    }
    let mutex = std::env::args().nth(1).as_deref() == Some("mutex");
    let both = Arc::new(Barrier::new(2));
    let p = Arc::new(RwLock::new(1u64));
    let q = Arc::new(RwLock::new(2u64));
    let table = p.clone();
    spawn("gave-back", move || gave_back(&A, &B, &table));
    spawn("condition", || waits_for_condition(&A));
    for i in 0..2 {
        let (both, p, q) = (both.clone(), p.clone(), q.clone());
        spawn(["a", "b"][i], move || match (mutex, i) {
            (true, 0) => transfer(&A, &B, &both),
            (true, _) => transfer(&B, &A, &both),
            (false, 0) => update(&p, &q, &both),
            (false, _) => update(&q, &p, &both),
        });
    }
    println!("ready");
    thread::sleep(Duration::from_secs(1000));
}
