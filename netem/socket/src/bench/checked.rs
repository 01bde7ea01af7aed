//! Messages whose every byte is compared at the other end.

use std::net::SocketAddr;

use bytes::Bytes;

use super::messages::{Receiver, Sender};
use super::peer::PeerReport;
use crate::SocketError;
use crate::credentials::Credentials;
use crate::timer::now_ns;

const WORD_BYTES: usize = 8;

/// Sends one message of each size, the next when the one before was compared.
pub(super) fn send(
    sizes: &[usize],
    credentials: &Credentials,
    to: SocketAddr,
) -> Result<Sender, SocketError> {
    let mut end = Sender::connect(credentials, to, 0)?;
    for &size in sizes {
        end.send(contents(size))?;
        end.wait_for_receipt()?;
    }
    Ok(end)
}

/// Receives one message of each size and compares it with what was sent.
pub(super) fn receive(
    sizes: &[usize],
    credentials: &Credentials,
    report: &mut dyn FnMut(PeerReport),
) -> Result<Receiver, SocketError> {
    let largest = sizes.iter().copied().max().unwrap_or_default();
    let (address, mut end) = Receiver::listen(credentials, largest, true)?;
    report(PeerReport::Listening { address });
    for &size in sizes {
        let message = end.next()?;
        let seconds = (now_ns().saturating_sub(message.timing.ready_ns)) as f64 / 1e9;
        if let Some(at) = first_difference(&message.payload, size) {
            return Err(SocketError::Damaged {
                bytes: size as u64,
                at,
            });
        }
        report(PeerReport::Checked {
            bytes: size as u64,
            seconds,
        });
        drop(message);
        end.give_receipt()?;
    }
    Ok(end)
}

/// The bytes of the message of `size`: no two words of it, nor two messages, are alike.
fn contents(size: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(size.next_multiple_of(WORD_BYTES));
    for at in 0..size.div_ceil(WORD_BYTES) {
        bytes.extend_from_slice(&word(size, at));
    }
    bytes.truncate(size);
    bytes.into()
}

/// Where `payload` stops to be the message of `size`; absent if it is that message.
fn first_difference(payload: &[u8], size: usize) -> Option<u64> {
    let differing = payload
        .chunks(WORD_BYTES)
        .enumerate()
        .find(|(at, found)| **found != word(size, *at)[..found.len()])
        .map(|(at, _)| at * WORD_BYTES);
    let shorter = (payload.len() != size).then_some(payload.len().min(size));
    differing.or(shorter).map(|at| at as u64)
}

/// The word at index `at`: a bijection of the index (the finaliser of MurmurHash3), apart for each size.
fn word(size: usize, at: usize) -> [u8; WORD_BYTES] {
    let mut mixed = at as u64 ^ (size as u64).rotate_left(32);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    (mixed ^ (mixed >> 33)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_damage_is_found() {
        for size in [1, 7, 8, 9, 4_000] {
            let whole = contents(size);
            assert_eq!(whole.len(), size);
            assert_eq!(first_difference(&whole, size), None);
            assert_eq!(
                first_difference(&whole[..size - 1], size),
                Some(size as u64 - 1)
            );
            let mut damaged = whole.to_vec();
            damaged[size - 1] ^= 1;
            let word = (size - 1) / WORD_BYTES * WORD_BYTES;
            assert_eq!(first_difference(&damaged, size), Some(word as u64));
        }
        assert_eq!(first_difference(&contents(16), 24), Some(0));
    }
}
