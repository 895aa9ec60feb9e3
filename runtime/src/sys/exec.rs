//! execve.

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

/// Arguments or environment in the form execve takes: a null-terminated array of C strings.
pub(crate) struct StringArray {
    /// Owns what `pointers` point to; their buffers do not move with the vector.
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            _strings: strings,
            pointers,
        }
    }
}

/// Replaces the process; returns only with the reason why not.
pub(crate) fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> io::Error {
    // SAFETY: path is a C string; StringArray::new ends both arrays with a null pointer, and
    // the strings they point to live as long as the arrays.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}
