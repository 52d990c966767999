//! Holds nothing: cargo wants a target in every package, and this one only names a dependency.
