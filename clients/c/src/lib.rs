//! The C API of the OpFlex framework's peer status listener, on the peerstatus service: `include/opflex-peerstatus.h`
//! documents it for callers.
//!
//! This is the only crate with `unsafe` code, and this module has all of it but the mask of signals. A listener's handle is a
//! number that only looks like a pointer, so that a stale one is an error and not undefined behaviour.
#![allow(non_camel_case_types)] // the names of the reference

mod calls;
mod context;
mod listener;
mod options;
mod state;
mod threads;

use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use listener::Listener;
use options::Options;

/// The result of a function: `OF_ESUCCESS` or another of these codes.
pub type ofstatus = c_int;
/// An object of this library.
pub type ofobj_p = *mut c_void;
/// A listener.
pub type ofpeerstatuslistener_p = ofobj_p;
/// Settings for a listener.
pub type ofps_options_p = ofobj_p;
/// Called when the status of a peer changes.
pub type ofpeerstatus_peer_p = Option<
    unsafe extern "C" fn(user_data: *mut c_void, peerhostname: *const c_char, port: c_int, status: c_int),
>;
/// Called when the health of the pool changes.
pub type ofpeerstatus_health_p = Option<unsafe extern "C" fn(user_data: *mut c_void, health: c_int)>;

/// Success.
pub const OF_ESUCCESS: c_int = 0;
/// A failure.
pub const OF_EFAILED: c_int = 1;
/// There is not enough memory.
pub const OF_EMEMORY: c_int = 2;
/// An error in the caller's logic.
pub const OF_ELOGIC: c_int = 10;
/// An error at run time.
pub const OF_ERUNTIME: c_int = 10;
/// A value is out of range.
pub const OF_EOUTOFRANGE: c_int = 11;
/// An argument is invalid.
pub const OF_EINVALID_ARG: c_int = 12;

/// The status of the peer is not known.
pub const OF_PEERSTATUS_ERROR: c_int = -1;
/// The peer has left its pool.
pub const OF_PEERSTATUS_DISCONNECTED: c_int = 0;
/// There is no connection yet, or it was lost.
pub const OF_PEERSTATUS_CONNECTING: c_int = 1;
/// There is a connection, and no handshake yet.
pub const OF_PEERSTATUS_CONNECTED: c_int = 2;
/// The handshake is complete.
pub const OF_PEERSTATUS_READY: c_int = 3;
/// The connection is being closed.
pub const OF_PEERSTATUS_CLOSING: c_int = 4;

/// The health is not known, for example because the service cannot be reached.
pub const OF_POOLHEALTH_ERROR: c_int = -1;
/// No peer is ready.
pub const OF_POOLHEALTH_DOWN: c_int = 0;
/// Some peers are ready.
pub const OF_POOLHEALTH_DEGRADED: c_int = 1;
/// All peers are ready.
pub const OF_POOLHEALTH_HEALTHY: c_int = 2;

/// Why a function failed: its code, and a text for people.
struct Failure {
    code: ofstatus,
    text: String,
}

impl Failure {
    fn new(code: ofstatus, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    fn invalid(text: impl Into<String>) -> Self {
        Self::new(OF_EINVALID_ARG, text)
    }
}

thread_local! {
    /// For [`ofps_last_error`].
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Text for C, without the NULs that it must not have.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Runs the body of a function that C calls: in a process that has forked it fails, and a panic becomes a failure.
fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> ofstatus {
    let result = match threads::check_process() {
        Ok(()) => catch_unwind(AssertUnwindSafe(body))
            .unwrap_or_else(|_| Err(Failure::new(OF_EFAILED, "internal error: a panic"))),
        Err(failure) => Err(failure),
    };
    let (code, text) =
        result.map_or_else(|failure| (failure.code, c_string(&failure.text)), |()| Default::default());
    if code != OF_ESUCCESS {
        LAST_ERROR.with_borrow_mut(|last| *last = text);
    }
    code
}

/// Creates a listener with the default settings.
///
/// # Safety
/// `obj` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofpeerstatuslistener_create(
    user_data: *mut c_void,
    peer_callback: ofpeerstatus_peer_p,
    health_callback: ofpeerstatus_health_p,
    obj: *mut ofpeerstatuslistener_p,
) -> ofstatus {
    // SAFETY: the contract of this function is that of the other one, to which NULL stands for the default settings.
    unsafe { ofps_create_with_options(ptr::null_mut(), user_data, peer_callback, health_callback, obj) }
}

/// Creates a listener.
///
/// # Safety
/// `obj` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_create_with_options(
    options: ofps_options_p,
    user_data: *mut c_void,
    peer_callback: ofpeerstatus_peer_p,
    health_callback: ofpeerstatus_health_p,
    obj: *mut ofpeerstatuslistener_p,
) -> ofstatus {
    guarded(|| {
        if obj.is_null() {
            return Err(Failure::invalid("obj is NULL"));
        }
        let options = if options.is_null() { Options::default() } else { options::get(options.addr())? };
        let callbacks = calls::Callbacks::new(user_data, peer_callback, health_callback);
        let handle = Listener::create(options, callbacks)?;
        // SAFETY: `obj` is not NULL, so the caller allows to write to it. The handle is a number: nothing dereferences it.
        unsafe { obj.write(ptr::without_provenance_mut(handle)) };
        Ok(())
    })
}

/// Destroys a listener, and zeroes the pointer.
///
/// # Safety
/// `obj` is NULL or may be read and written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofpeerstatuslistener_destroy(obj: *mut ofpeerstatuslistener_p) -> ofstatus {
    // SAFETY: the same contract.
    guarded(|| unsafe { take(obj, listener::destroy) })
}

/// Creates settings.
///
/// # Safety
/// `options` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_create(options: *mut ofps_options_p) -> ofstatus {
    guarded(|| {
        if options.is_null() {
            return Err(Failure::invalid("options is NULL"));
        }
        // SAFETY: `options` is not NULL, so the caller allows to write to it.
        unsafe { options.write(ptr::without_provenance_mut(options::create())) };
        Ok(())
    })
}

/// Destroys settings, and zeroes the pointer.
///
/// # Safety
/// `options` is NULL or may be read and written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_destroy(options: *mut ofps_options_p) -> ofstatus {
    // SAFETY: the same contract.
    guarded(|| unsafe { take(options, options::destroy) })
}

/// Destroys what the handle at `place` is of, and zeroes it.
///
/// # Safety
/// `place` is NULL or may be read and written to.
unsafe fn take(place: *mut ofobj_p, destroy: fn(usize) -> Result<(), Failure>) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::invalid("the argument is NULL"));
    }
    // SAFETY: `place` is not NULL, so the caller allows to read it and to write to it.
    let handle = unsafe { place.read() }.addr();
    destroy(handle)?;
    // SAFETY: as before. The destruction has called nothing of the caller's that could have freed the place, unless it
    // was waited for a callback to end, and that must not do so.
    unsafe { place.write(ptr::null_mut()) };
    Ok(())
}

/// A text of the caller's.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL, and stays as it is while this runs.
unsafe fn text(value: *const c_char) -> Result<String, Failure> {
    if value.is_null() {
        return Err(Failure::invalid("value is NULL"));
    }
    // SAFETY: `value` is not NULL, so it ends with a NUL.
    let value = unsafe { CStr::from_ptr(value) }.to_str();
    Ok(value.map_err(|_| Failure::invalid("value is not UTF-8"))?.to_owned())
}

/// Changes settings.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
unsafe fn change(
    options: ofps_options_p,
    value: *const c_char,
    change: fn(&mut Options, String) -> Result<(), Failure>,
) -> ofstatus {
    // SAFETY: the same contract.
    guarded(|| options::change(options.addr(), unsafe { text(value) }?, change))
}

/// Sets the address of the service.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_server(options: ofps_options_p, value: *const c_char) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, Options::set_server) }
}

/// Sets the file or directory with the authorities of the service's certificate.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_tls_ca(options: ofps_options_p, value: *const c_char) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, |options, value| options.set_text("tls-ca", value)) }
}

/// Sets the file with our certificate.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_tls_cert(
    options: ofps_options_p,
    value: *const c_char,
) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, |options, value| options.set_text("tls-cert", value)) }
}

/// Sets the file with our private key.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_tls_key(options: ofps_options_p, value: *const c_char) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, |options, value| options.set_text("tls-key", value)) }
}

/// Sets the name that the service's certificate must be for.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_tls_server_name(
    options: ofps_options_p,
    value: *const c_char,
) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, |options, value| options.set_text("tls-server-name", value)) }
}

/// Sets the file with the token.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_set_token_file(
    options: ofps_options_p,
    value: *const c_char,
) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, |options, value| options.set_text("token-file", value)) }
}

/// Adds a pattern for the names of pools.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_add_pool(options: ofps_options_p, value: *const c_char) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, Options::add_pool) }
}

/// Adds a pattern for peers.
///
/// # Safety
/// `value` is NULL or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ofps_options_add_peer(options: ofps_options_p, value: *const c_char) -> ofstatus {
    // SAFETY: the same contract.
    unsafe { change(options, value, Options::add_peer) }
}

/// The text of the last failure in this thread.
#[unsafe(no_mangle)]
pub extern "C" fn ofps_last_error() -> *const c_char {
    // The text lives in the thread, and is replaced by its next failure only.
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The pool of the change that is being called back.
#[unsafe(no_mangle)]
pub extern "C" fn ofps_change_pool() -> *const c_char {
    context::with_current(|change| change.pool.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The reason of the change that is being called back.
#[unsafe(no_mangle)]
pub extern "C" fn ofps_change_reason() -> *const c_char {
    context::with_current(|change| change.reason.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The detail of the change that is being called back.
#[unsafe(no_mangle)]
pub extern "C" fn ofps_change_detail() -> *const c_char {
    context::with_current(|change| change.detail.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn ofps_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
