//! What every campaign needs and none is about: its options, its cases, what is kept of them, and
//! the table.

#[path = "harness/ledger.rs"]
pub(crate) mod ledger;
#[path = "harness/options.rs"]
pub(crate) mod options;
#[path = "harness/table.rs"]
pub(crate) mod table;
#[path = "harness/times.rs"]
pub(crate) mod times;
#[path = "harness/turn.rs"]
pub(crate) mod turn;
