//! What a container really has, seen from inside: the report that the program `skiff-probe` prints
//! and the drivers read.
//!
//! The program is static and is put into containers of any image. What must hold: it reports what
//! the kernel says and judges nothing; a file that cannot be read is left out of the report, not
//! guessed.

#![deny(unsafe_code)]

pub mod attempt;
pub mod report;
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;
