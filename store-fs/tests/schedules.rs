//! Schedules: the code that is served from, run in thousands of orders of its threads' steps.
//!
//! Built with the feature `shuttle` only; see `docs/TESTING.md`. `DYNFS_TEST_SCHEDULES=<n>` runs so
//! many of each, `DYNFS_TEST_SEED=<n>` others.

#[path = "schedules/asked.rs"]
mod asked;
#[path = "schedules/kernel.rs"]
mod kernel;
#[path = "schedules/program.rs"]
mod program;
#[path = "schedules/rows.rs"]
mod rows;
#[path = "schedules/slots.rs"]
mod slots;
#[path = "schedules/views.rs"]
mod views;
#[path = "schedules/world.rs"]
mod world;
