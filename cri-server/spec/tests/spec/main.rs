//! CRI requests and the specifications they become.

mod case;
mod golden;
mod isolation;
mod limits;
mod process;
mod profiles;
mod properties;
mod selinux;
mod update;
mod userns;
mod volumes;
