#![no_main]

#[path = "../../tests/it/fuzz/observer.rs"]
mod observer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| observer::run(data));
