//! Schedules: the code that is served from, run in thousands of orders of its threads' steps.
//!
//! Built with the feature `shuttle` only; see `docs/TESTING.md`. `DYNFS_TEST_SCHEDULES=<n>` runs so
//! many of each, `DYNFS_TEST_SEED=<n>` others. That of announcing is beside the announcing thread.

pub(crate) mod asked;
pub(crate) mod kernel;
pub(crate) mod program;
mod rows;
mod slots;
mod states;
mod views;
pub(crate) mod world;
