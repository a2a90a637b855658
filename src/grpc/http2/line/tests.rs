//! The line, alone and with others who ring from their threads.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, AtomicUsize},
        mpsc,
    },
    thread,
};

use super::*;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn line() -> (Arc<Line>, Arc<Task>) {
    let (line, task) = (Line::new(), Arc::new(Task::default()));
    line.register(&Waker::from(Arc::clone(&task)));
    line.set_up();
    (line, task)
}

fn doorbell(line: &Arc<Line>) -> Waker {
    Waker::from(Arc::new(Doorbell(Arc::clone(line))))
}

#[test]
fn a_task_that_runs_is_not_woken_but_may_not_rest() {
    let (line, task) = line();
    line.attend();
    line.ring();
    line.ring();
    assert!(!line.rest());
    assert_eq!(task.0.load(Relaxed), 0, "it will look anyway");
    assert!(!line.rest(), "and has to look first");
    line.attend();
    assert!(line.rest());
}

#[test]
fn a_task_that_sleeps_is_woken_once() {
    let (line, task) = line();
    line.attend();
    assert!(line.rest());
    line.ring();
    line.ring();
    assert_eq!(task.0.load(Relaxed), 1);
    line.attend();
    assert!(line.rest(), "what was rung for before it looked is seen to");
    line.ring();
    assert_eq!(task.0.load(Relaxed), 2);
}

#[test]
fn a_socket_is_asked_until_it_has_nothing_and_then_when_it_has_rung() {
    let (line, task) = line();
    let doorbell = doorbell(&line);
    line.attend();
    assert!(line.may_read(), "it may have had something from the beginning");
    line.took_in(100);
    assert!(line.may_read(), "and more");
    // It had nothing: nothing is noted.
    assert!(!line.may_read());
    assert!(line.rest());
    doorbell.wake_by_ref();
    assert_eq!(task.0.load(Relaxed), 1);
    line.attend();
    assert!(line.may_read());
    assert!(!line.may_read());
}

#[test]
fn what_h2_rings_for_does_not_have_the_socket_asked() {
    let (line, task) = line();
    line.attend();
    assert!(line.may_read());
    assert!(line.rest());
    Waker::from(Arc::clone(&line)).wake();
    assert_eq!(task.0.load(Relaxed), 1);
    line.attend();
    assert!(!line.may_read());
}

#[test]
fn so_much_is_taken_in_and_the_rest_in_the_next_round() {
    let (line, task) = line();
    line.attend();
    assert!(line.may_read());
    line.took_in(AT_A_TIME - 1);
    assert!(line.may_read(), "one byte more is allowed");
    line.took_in(2 * AT_A_TIME);
    assert!(!line.may_read(), "that was more than enough");
    assert!(!line.rest(), "there may be more in the socket");
    assert_eq!(task.0.load(Relaxed), 0);
    line.attend();
    assert!(line.may_read());
}

#[test]
fn reading_is_noted_with_its_time() {
    let (line, _) = line();
    let (reads, before) = (line.reads(), Instant::now());
    assert!(line.heard() <= before);
    line.took_in(0);
    assert_eq!(line.reads(), reads.wrapping_add(1));
    assert!(line.heard() >= before && line.heard() <= Instant::now());
    line.set_blocked(true);
    assert!(line.is_blocked());
}

/// A task that this thread runs when it is woken.
struct Driven(mpsc::SyncSender<()>);

impl Wake for Driven {
    fn wake(self: Arc<Self>) {
        // Room for one: it will look at everything.
        let _ = self.0.try_send(());
    }
}

/// Others say what there is to be done, and ring; the task looks, and rests. If the last ring were lost, or what was said
/// before it not seen, it would sleep forever.
#[test]
fn no_ring_is_lost_whenever_it_comes() {
    const RINGERS: usize = 3;
    const RINGS: u64 = 20_000;
    let line = Line::new();
    let (wake, woken) = mpsc::sync_channel(1);
    line.register(&Waker::from(Arc::new(Driven(wake))));
    line.set_up();
    let together = Arc::new(Barrier::new(1 + RINGERS));
    let ringers: Vec<_> = (0..RINGERS)
        .map(|which| {
            let bell = if which == 0 { doorbell(&line) } else { Waker::from(Arc::clone(&line)) };
            let (to_do, together) = (Arc::new(AtomicU64::new(0)), Arc::clone(&together));
            let told = Arc::clone(&to_do);
            let ringer = thread::spawn(move || {
                together.wait();
                for ring in 1..=RINGS {
                    told.store(ring, Relaxed);
                    bell.wake_by_ref();
                    if ring % 16 == 0 {
                        thread::yield_now();
                    }
                }
            });
            (to_do, ringer)
        })
        .collect();
    together.wait();
    let mut left = true;
    while left {
        line.attend();
        left = ringers.iter().any(|(to_do, _)| to_do.load(Relaxed) < RINGS);
        if line.rest() && left {
            let came = woken.recv_timeout(Duration::from_secs(30));
            assert!(came.is_ok(), "it sleeps, and something was left to do");
        }
    }
    ringers.into_iter().for_each(|(_, ringer)| assert!(ringer.join().is_ok()));
}
