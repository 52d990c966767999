//! The one module that names the FUSE library: the kernel's questions carried to [`DynFs`] and its
//! answers back. It decides nothing; whatever needs thought is in `fs`, where no mount is needed to
//! test it.
//!
//! A server never mounts and never negotiates: it takes over a connection that the keeper opened
//! ([`Session::take_over`]), the first time as well as after a crash.
//!
//! [`DynFs`]: crate::DynFs

mod adapter;
#[cfg(debug_assertions)]
pub mod hook;
mod in_hand;
mod kernel;
mod lost;
mod orphans;
mod session;
mod wire;

pub use kernel::FuseKernel;
pub use session::Session;
pub use wire::{Foregone, Negotiated, answer_init, resend};
