//! The order in which packages are swapped: the same one in every run.

use crate::releases::VERSIONS;

/// Which release is selected next: walks through all packages with a wide stride, and swaps each
/// to its other release whenever it comes by.
#[derive(Debug)]
pub(crate) struct Turns {
    packages: usize,
    next: usize,
}

impl Turns {
    /// A prime, and so without a common factor with the number of packages.
    const STRIDE: usize = 7919;

    pub(crate) const fn new(packages: usize) -> Self {
        Self { packages, next: 0 }
    }

    /// The number of a package, and which of its releases is to be selected.
    pub(crate) const fn next(&mut self) -> (usize, usize) {
        let (round, step) = (self.next / self.packages, self.next % self.packages);
        self.next += 1;
        (step * Self::STRIDE % self.packages, (round + 1) % VERSIONS.len())
    }
}
