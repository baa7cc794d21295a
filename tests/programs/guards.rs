//! Deadlocks of Rust's std locks, run as PROG SCENARIO [ARGS].  std only; compiles with 1.63.
//!
//! The scene's own meeting points are atomics that are slept on, never futexes, so that every
//! futex wait is the scenario's own.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::raw::{c_char, c_int, c_long, c_ulong};
use std::os::unix::io::FromRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Condvar, Mutex, Once, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

extern "C" {
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
    fn syscall(number: c_long) -> c_long;
    fn alarm(seconds: u32) -> u32;
    fn pause() -> c_int;
    fn strlen(text: *const c_char) -> usize;
}

const PR_SET_PDEATHSIG: c_int = 1;
const PR_SET_NAME: c_int = 15;
const PR_SET_PTRACER: c_int = 0x59616d61;
const SIGKILL: c_ulong = 9;
const SYS_GETTID: c_long = 186;
const SCENE_SECONDS: u32 = 300;

/// One write(2), without std's locks around stdout.
fn say(line: &str) {
    let mut out = unsafe { std::fs::File::from_raw_fd(1) };
    out.write_all(line.as_bytes()).unwrap();
    std::mem::forget(out);
}

/// Names the calling thread and tells the harness its ids.
fn name(name: &str) {
    let c_name = CString::new(name).unwrap();
    unsafe {
        assert!(strlen(c_name.as_ptr()) < 16);
        prctl(PR_SET_NAME, c_name.as_ptr() as c_ulong, 0, 0, 0);
    }
    say(&format!("tid {} {} {}\n", name, unsafe { syscall(SYS_GETTID) }, std::process::id()));
}

static HELD: AtomicUsize = AtomicUsize::new(0);
static GO: AtomicUsize = AtomicUsize::new(0);

fn doze_until(done: impl Fn() -> bool) {
    while !done() {
        thread::sleep(Duration::from_micros(200));
    }
}

/// "I hold what I am to hold"; returns when everybody may go and block.
fn hold() {
    HELD.fetch_add(1, SeqCst);
    doze_until(|| GO.load(SeqCst) > 0);
}

/// Returns once `holders` threads hold theirs; from here on everybody goes and blocks.
fn start(holders: usize) {
    doze_until(|| HELD.load(SeqCst) >= holders);
    say("ready\n");
    GO.fetch_add(1, SeqCst);
}

fn idle() -> ! {
    loop {
        unsafe { pause() };
    }
}

fn spawn(thread_name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread_name = thread_name.into();
    thread::spawn(move || {
        name(&thread_name);
        body()
    })
}

struct Account {
    owner: [u8; 40],
    balance: Mutex<i64>,
}

static ACCOUNTS: Mutex<[i64; 8]> = Mutex::new([0; 8]);
static AUDIT: Mutex<u8> = Mutex::new(0);
static PRICES: RwLock<u64> = RwLock::new(0);
static STOCK: RwLock<u8> = RwLock::new(0);
static TURN: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();
static FIRST: Once = Once::new();
static SECOND: Once = Once::new();

/// Two static mutexes in opposite order.
fn mutex() {
    spawn("a", || {
        let mut accounts = ACCOUNTS.lock().unwrap();
        hold();
        let audit = AUDIT.lock().unwrap();
        accounts[0] += *audit as i64;
    });
    spawn("b", || {
        let mut audit = AUDIT.lock().unwrap();
        hold();
        let accounts = ACCOUNTS.lock().unwrap();
        *audit += accounts[0] as u8;
    });
    start(2);
    idle()
}

/// Two mutexes inside of structures in the heap.
fn heap() {
    let account = || Arc::new(Account { owner: [b'x'; 40], balance: Mutex::new(0) });
    let (one, other) = (account(), account());
    for (who, from, to) in
        [("a", one.clone(), other.clone()), ("b", other.clone(), one.clone())]
    {
        spawn(who, move || {
            let mut from_balance = from.balance.lock().unwrap();
            hold();
            let mut to_balance = to.balance.lock().unwrap();
            *from_balance -= from.owner[0] as i64;
            *to_balance += 1;
        });
    }
    start(2);
    idle()
}

/// One thread that locks its own mutex again.
fn relock() {
    spawn("a", || {
        let _held = ACCOUNTS.lock().unwrap();
        hold();
        let _again = ACCOUNTS.lock().unwrap();
    });
    start(1);
    idle()
}

/// A guard that lives on in a match: the usual way to lock twice by mistake.
fn temporary() {
    spawn("a", || {
        match *AUDIT.lock().unwrap() {
            0 => {
                hold();
                *AUDIT.lock().unwrap() = 1;
            }
            _ => {}
        };
    });
    start(1);
    idle()
}

fn write_write() {
    spawn("a", || {
        let mut prices = PRICES.write().unwrap();
        hold();
        *prices += *STOCK.write().unwrap() as u64;
    });
    spawn("b", || {
        let mut stock = STOCK.write().unwrap();
        hold();
        *stock += *PRICES.write().unwrap() as u8;
    });
    start(2);
    idle()
}

/// Each reads one and wants to write the other.
fn read_write() {
    spawn("a", || {
        let prices = PRICES.read().unwrap();
        hold();
        *STOCK.write().unwrap() += *prices as u8;
    });
    spawn("b", || {
        let stock = STOCK.read().unwrap();
        hold();
        *PRICES.write().unwrap() += *stock as u64;
    });
    start(2);
    idle()
}

/// Each writes one and wants to read the other.
fn write_read() {
    spawn("a", || {
        let mut prices = PRICES.write().unwrap();
        hold();
        *prices += *STOCK.read().unwrap() as u64;
    });
    spawn("b", || {
        let mut stock = STOCK.write().unwrap();
        hold();
        *stock += *PRICES.read().unwrap() as u8;
    });
    start(2);
    idle()
}

/// The main thread joins a thread that wants the mutex that main holds.
fn join() {
    let held = ACCOUNTS.lock().unwrap();
    let b = spawn("b", || {
        hold();
        ACCOUNTS.lock().unwrap()[0] += 1;
    });
    start(1);
    b.join().unwrap();
    drop(held);
}

/// a holds the mutex and waits for a message from b, who wants the mutex first.
fn message() {
    let (sender, receiver) = channel();
    spawn("a", move || {
        let mut accounts = ACCOUNTS.lock().unwrap();
        hold();
        accounts[0] = receiver.recv().unwrap();
    });
    doze_until(|| HELD.load(SeqCst) == 1);
    spawn("b", move || {
        hold();
        let accounts = ACCOUNTS.lock().unwrap();
        sender.send(accounts[0]).unwrap();
    });
    start(2);
    idle()
}

/// Two initialisers that need each other.
fn once() {
    spawn("a", || {
        FIRST.call_once(|| {
            hold();
            SECOND.call_once(|| ());
        })
    });
    spawn("b", || {
        SECOND.call_once(|| {
            hold();
            FIRST.call_once(|| ());
        })
    });
    start(2);
    idle()
}

/// A cycle of a and b with `n` threads queued behind.
fn victims(n: usize) {
    for i in 0..n {
        spawn(format!("v{}", i), move || {
            hold();
            if i % 2 == 0 {
                ACCOUNTS.lock().unwrap()[0] += 1;
            } else {
                *AUDIT.lock().unwrap() += 1;
            }
        });
    }
    doze_until(|| HELD.load(SeqCst) == n);
    spawn("a", || {
        let mut accounts = ACCOUNTS.lock().unwrap();
        hold();
        accounts[0] += *AUDIT.lock().unwrap() as i64;
    });
    spawn("b", || {
        let mut audit = AUDIT.lock().unwrap();
        hold();
        *audit += ACCOUNTS.lock().unwrap()[0] as u8;
    });
    start(n + 2);
    idle()
}

/// Not a deadlock: the holder sleeps.
fn sleeper() {
    spawn("a", || {
        let mut accounts = ACCOUNTS.lock().unwrap();
        hold();
        loop {
            thread::sleep(Duration::from_secs(3600));
            accounts[0] += 1;
        }
    });
    doze_until(|| HELD.load(SeqCst) == 1);
    spawn("b", || {
        hold();
        ACCOUNTS.lock().unwrap()[0] += 1;
    });
    start(2);
    idle()
}

/// Not a deadlock: a pool without work.
fn pool() {
    for i in 0..4 {
        spawn(format!("w{}", i), || {
            let mut turn = TURN.lock().unwrap();
            HELD.fetch_add(1, SeqCst);
            while !*turn {
                turn = CHANGED.wait(turn).unwrap();
            }
        });
    }
    start(4);
    idle()
}

/// Not a deadlock: a pool that waits for messages, and whoever may send some.
fn receivers() {
    let mut senders: HashMap<usize, Sender<u8>> = HashMap::new();
    for i in 0..3 {
        let (sender, receiver) = channel();
        senders.insert(i, sender);
        spawn(format!("w{}", i), move || {
            HELD.fetch_add(1, SeqCst);
            while receiver.recv().is_ok() {}
        });
    }
    start(3);
    let mut byte = [0];
    loop {
        thread::sleep(Duration::from_secs(3600));
        std::io::stdin().read_exact(&mut byte).unwrap_or(());
        senders[&0].send(byte[0]).unwrap();
    }
}

/// Not a deadlock: threads that fight for one mutex and get on.
fn contention() {
    for i in 0..4 {
        spawn(format!("w{}", i), || {
            hold();
            loop {
                let mut accounts = ACCOUNTS.lock().unwrap();
                accounts[0] += 1;
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
    start(4);
    idle()
}

fn main() {
    unsafe {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        prctl(PR_SET_PTRACER, c_ulong::MAX, 0, 0, 0);
        alarm(SCENE_SECONDS);
    }
    name("main");
    let arguments: Vec<String> = std::env::args().collect();
    let number = || arguments.get(2).map_or(20, |text| text.parse().unwrap());
    match arguments.get(1).map(String::as_str) {
        Some("mutex") => mutex(),
        Some("heap") => heap(),
        Some("self") => relock(),
        Some("temporary") => temporary(),
        Some("write-write") => write_write(),
        Some("read-write") => read_write(),
        Some("write-read") => write_read(),
        Some("join") => join(),
        Some("message") => message(),
        Some("once") => once(),
        Some("victims") => victims(number()),
        Some("sleeper") => sleeper(),
        Some("pool") => pool(),
        Some("receivers") => receivers(),
        Some("contention") => contention(),
        other => panic!("no scenario {:?}", other),
    }
}
