//! The engine, the two processes, the control protocol and the commands.
//!
//! Reading order: [`engine`], [`protocol`], [`control`], `client`, `cli`, `commands`. This crate
//! never knows inode numbers, the encoding of objects or the tables of the index.

mod agreed;
mod apply_file;
mod cli;
mod client;
mod commands;
pub mod control;
pub mod demo;
pub mod engine;
pub mod error;
pub mod fuzz;
pub mod host;
mod invocation;
mod keeper;
pub mod log;
pub mod mount;
mod mountinfo;
mod path_text;
pub mod protocol;
mod render;
mod report;
mod rundir;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;
mod server;
mod sys;
mod trail;
mod usage;

use std::process::ExitCode;

/// Runs the program with this process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = host::arguments();
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some(role) if mount::ROLES.contains(&role) => mount::run_hidden(&arguments[1..]),
        _ => commands::run(&arguments),
    }
}
