#![no_main]

#[path = "../../tests/it/fuzz/peer.rs"]
mod peer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| peer::run(data));
