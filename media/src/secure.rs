//! Secure media of one port.

pub mod ice;
pub mod srtp;
pub mod stun;

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what it should be.
    Malformed,
    /// It came before, or is too old to be told.
    Replayed,
    /// Its authentication fails.
    Forged,
}
