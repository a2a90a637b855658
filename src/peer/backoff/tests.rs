//! Delays: bounded, spread, and the same for the same seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const BASE: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(30);

fn delays(seed: u64) -> Vec<Duration> {
    let mut backoff = Backoff::new(BASE, CAP, seed);
    (0..20).map(|_| backoff.next()).collect()
}

#[test]
fn the_ceiling_doubles_up_to_the_cap() {
    let mut backoff = Backoff::new(BASE, CAP, 1);
    let mut ceilings = Vec::new();
    for _ in 0..9 {
        ceilings.push(backoff.ceiling().as_millis());
        backoff.next();
    }
    assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
}

#[test]
fn the_same_seed_waits_the_same_and_another_does_not() {
    assert_eq!(delays(7), delays(7));
    assert_ne!(delays(7), delays(8));
}

#[test]
fn a_reset_starts_again_from_the_base() {
    let mut backoff = Backoff::new(BASE, CAP, 1);
    for _ in 0..100 {
        backoff.next();
    }
    backoff.reset();
    assert_eq!(backoff.ceiling(), BASE);
}

#[test]
fn one_that_goes_on_waits_as_if_it_had_made_those_attempts() {
    let after = |attempts| Backoff::new(BASE, CAP, 1).after(attempts).ceiling();
    assert_eq!((after(0), after(3)), (BASE, BASE * 8));
    assert_eq!(after(u32::MAX), CAP);
}

#[test]
fn a_new_cap_holds_for_the_next_delay_even_below_the_base() {
    let mut backoff = Backoff::new(BASE, CAP, 1);
    for _ in 0..100 {
        backoff.next();
    }
    backoff.set_cap(Duration::from_secs(1));
    assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    backoff.set_cap(Duration::ZERO);
    assert_eq!(backoff.next(), Duration::ZERO);
}

#[test]
fn delays_are_spread_evenly() {
    let mut backoff = Backoff::new(CAP, CAP, 42);
    let mut tenths = [0_u32; 10];
    for _ in 0..10_000 {
        let share = backoff.next().as_secs_f64() / CAP.as_secs_f64();
        tenths[((share * 10.0) as usize).min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
}

proptest! {
    #[test]
    fn no_setting_panics_or_exceeds_its_cap(base: Duration, cap: Duration, seed: u64, calls in 0_u32..200) {
        let mut backoff = Backoff::new(base, cap, seed);
        for _ in 0..calls {
            let ceiling = backoff.ceiling();
            prop_assert!(ceiling <= cap && backoff.next() <= ceiling);
        }
        backoff.attempts = u32::MAX;
        prop_assert!(backoff.next() <= cap);
    }
}
