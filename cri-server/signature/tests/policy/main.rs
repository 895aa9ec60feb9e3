//! Policies, and signatures that were really made.

mod case;
mod documents;
mod files;
mod keyless;
mod keys;
