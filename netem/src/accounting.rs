//! What bytes cost on a link: the one place where headers and repeated bytes are counted.

use crate::{Accounting, LinkSpec};

/// Stream bytes in one full QUIC datagram: what quinn 0.11 was seen to put into a UDP payload of [`DATAGRAM_BYTES`], the
/// rest being its short header, the stream frame's header and the 16-byte authentication tag (RFC 9001).
pub const SEGMENT_BYTES: u64 = 1421;
/// UDP payload of a full datagram on a path of Ethernet's MTU: 1500 - 48, an IPv6 and a UDP header.
pub const DATAGRAM_BYTES: u64 = 1452;
/// IPv4 header without options (RFC 791, 20 bytes) and UDP header (RFC 768, 8 bytes).
pub const IP_UDP_HEADER_BYTES: u64 = 28;
/// Ethernet header (IEEE 802.3) as Linux's queueing disciplines count it: no preamble, no checksum, no gap.
pub const ETHERNET_HEADER_BYTES: u64 = 14;

impl Accounting {
    /// Bytes that the rate counts for `payload_bytes` of tensors, as full datagrams and a last shorter one.
    ///
    /// Parts of a message are charged by the difference of two prefixes: only the message's end ends a datagram.
    pub fn charged_bytes(self, payload_bytes: u64) -> u64 {
        let quic_bytes = DATAGRAM_BYTES - SEGMENT_BYTES;
        let a_datagram = match self {
            Self::Payload => 0,
            Self::Ip | Self::Ethernet => quic_bytes + self.header_bytes(),
        };
        payload_bytes.saturating_add(datagrams(payload_bytes).saturating_mul(a_datagram))
    }

    /// Bytes that the rate counts for a real datagram with `udp_payload_bytes`. Where tensors are what counts, QUIC's own bytes
    /// count too, since only QUIC knows which is which.
    pub fn datagram_bytes(self, udp_payload_bytes: u64) -> u64 {
        udp_payload_bytes.saturating_add(self.header_bytes())
    }

    /// Bytes in front of a UDP payload that the rate counts.
    fn header_bytes(self) -> u64 {
        match self {
            Self::Payload => 0,
            Self::Ip => IP_UDP_HEADER_BYTES,
            Self::Ethernet => IP_UDP_HEADER_BYTES + ETHERNET_HEADER_BYTES,
        }
    }
}

impl LinkSpec {
    /// Bytes that a message of `payload_bytes` takes of the link's rate: with the headers that
    /// [`accounting`](Self::accounting) counts and, under the goodput model, with what loss makes the sender repeat.
    pub fn charged_bytes(&self, payload_bytes: u64) -> u64 {
        let once = self.accounting.charged_bytes(payload_bytes);
        self.loss.with_repeats(once)
    }
}

/// Datagrams that carry `payload_bytes` of a message.
pub fn datagrams(payload_bytes: u64) -> u64 {
    payload_bytes.div_ceil(SEGMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_those_that_tc_was_seen_to_charge() {
        let charged = [Accounting::Payload, Accounting::Ip, Accounting::Ethernet]
            .map(|accounting| [0, 1, 1421, 1422].map(|bytes| accounting.charged_bytes(bytes)));
        assert_eq!(
            charged,
            [[0, 1, 1421, 1422], [0, 60, 1480, 1540], [0, 74, 1494, 1568]]
        );
        assert_eq!(Accounting::Payload.datagram_bytes(1452), 1452);
        assert_eq!(Accounting::Ip.datagram_bytes(1452), 1480);
        assert_eq!(Accounting::Ethernet.datagram_bytes(1452), 1494);
    }

    proptest! {
        #[test]
        fn a_message_costs_the_same_however_it_is_cut(
            accounting in prop::sample::select(vec![Accounting::Payload, Accounting::Ip, Accounting::Ethernet]),
            pieces in prop::collection::vec(0u64..1 << 20, 1..40),
        ) {
            let (mut before, mut charged) = (0, 0);
            for piece in pieces {
                let after = before + piece;
                charged += accounting.charged_bytes(after) - accounting.charged_bytes(before);
                before = after;
            }
            prop_assert_eq!(charged, accounting.charged_bytes(before));
            prop_assert!(charged >= before);
        }

        #[test]
        fn nothing_overflows(bytes: u64) {
            for accounting in [Accounting::Payload, Accounting::Ip, Accounting::Ethernet] {
                prop_assert!(accounting.charged_bytes(bytes) >= bytes);
                prop_assert!(accounting.datagram_bytes(bytes) >= bytes);
            }
        }
    }
}
