//! Real mounts: what `docs/SEMANTICS.md` promises, asked of the kernel.
//!
//! A test that cannot mount says SKIPPED and why; one that has mounted says MOUNTED, which the
//! continuous integration looks for. Each test has a store and a mount of its own below a temporary
//! directory, and takes both away also when it fails.

#![expect(clippy::print_stdout, reason = "MOUNTED and SKIPPED are for who reads the output")]

#[path = "campaigns/register.rs"]
mod register;
#[path = "mount/rig.rs"]
mod rig;

#[path = "mount/crash.rs"]
mod crash;
#[path = "mount/daemon.rs"]
mod daemon;
#[path = "mount/gc.rs"]
mod gc;
#[path = "mount/guard.rs"]
mod guard;
#[path = "mount/log.rs"]
mod log;
#[path = "mount/old_kernel.rs"]
mod old_kernel;
#[path = "mount/programs.rs"]
mod programs;
#[path = "mount/repair.rs"]
mod repair;
#[path = "mount/swap.rs"]
mod swap;
#[path = "mount/upgrade.rs"]
mod upgrade;
#[path = "mount/user.rs"]
mod user;
#[path = "mount/worst.rs"]
mod worst;
