//! `skiff-shim`: see the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match skiff_shim::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            skiff_shim::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
