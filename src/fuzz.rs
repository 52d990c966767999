//! As [`store_fs::fuzz`], for what clients and users write: takes any bytes and never panics.

mod spec;
mod wire;

pub use spec::spec;
pub use wire::protocol;

#[cfg(test)]
mod tests;
