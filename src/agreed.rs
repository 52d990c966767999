//! What the first keeper wrote into the memory file for all servers and keepers after it.
//!
//! ```text
//! negotiated:16 mounted_at:8 watchdog, seconds:8 unanswered, seconds:8
//! ```

use std::time::Duration;

use store_fs::fuse::Negotiated;

/// Fixed for the life of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// With the kernel.
    pub(crate) negotiated: Negotiated,
    /// Seconds since 1970 at which the mount was made.
    pub(crate) mounted_at: i64,
    /// A server that answers nothing for so long is replaced; zero: never.
    pub(crate) watchdog: Duration,
    /// A connection with requests that nobody answers for so long is ended; zero: never.
    pub(crate) unanswered: Duration,
}

impl Agreed {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.negotiated.to_bytes().to_vec();
        bytes.extend_from_slice(&self.mounted_at.to_ne_bytes());
        bytes.extend_from_slice(&self.watchdog.as_secs().to_ne_bytes());
        bytes.extend_from_slice(&self.unanswered.as_secs().to_ne_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (negotiated, bytes) = bytes.split_at_checked(Negotiated::LEN)?;
        let (at, bytes) = bytes.split_at_checked(size_of::<i64>())?;
        let (watchdog, bytes) = bytes.split_at_checked(size_of::<u64>())?;
        // Keepers before this one agreed upon nothing here.
        let unanswered = if bytes.is_empty() { &[0; size_of::<u64>()] } else { bytes };
        let seconds =
            |bytes: &[u8]| Some(Duration::from_secs(u64::from_ne_bytes(bytes.try_into().ok()?)));
        Some(Self {
            negotiated: Negotiated::from_bytes(negotiated)?,
            mounted_at: i64::from_ne_bytes(at.try_into().ok()?),
            watchdog: seconds(watchdog)?,
            unanswered: seconds(unanswered)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let negotiated = Negotiated::from_bytes(&[7; Negotiated::LEN]).unwrap();
        let (watchdog, unanswered) = (Duration::from_secs(10), Duration::from_secs(30));
        let agreed = Agreed { negotiated, mounted_at: -5, watchdog, unanswered };
        let bytes = agreed.to_bytes();
        assert_eq!(Agreed::from_bytes(&bytes), Some(agreed));
        let old = bytes.len() - size_of::<u64>();
        for len in (0..bytes.len()).filter(|len| *len != old) {
            assert_eq!(Agreed::from_bytes(&bytes[..len]), None);
        }
        let without = Agreed { unanswered: Duration::ZERO, ..agreed };
        assert_eq!(Agreed::from_bytes(&bytes[..old]), Some(without));
    }
}
