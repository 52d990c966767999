//! Schedules: the code that is served from, run in thousands of orders of its threads' steps.
//!
//! Built with the feature `shuttle` only; see `docs/TESTING.md`. `DYNFS_TEST_SCHEDULES=<n>` runs so
//! many of each, `DYNFS_TEST_SEED=<n>` others.

mod schedules {
    mod asked;
    mod kernel;
    mod program;
    mod rows;
    mod slots;
    mod states;
    mod views;
    mod world;
}
