//! Datagrams that are not as they should be, made again from a seed.

/// Longest datagram.
pub const MAX_DATAGRAM: usize = 1500;

/// A datagram of the corpus, most often as one of a stream that goes on, with a few faults.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut datagram = corpus[random.below(corpus.len())].clone();
    // Streams go on: else everything would be a duplicate.
    if datagram.len() >= 8 && random.below(4) != 0 {
        let step = random.below(40) as u16;
        let sequence = u16::from_be_bytes([datagram[2], datagram[3]]).wrapping_add(step);
        datagram[2..4].copy_from_slice(&sequence.to_be_bytes());
        let timestamp = (u32::from(sequence) * 160).to_be_bytes();
        datagram[4..8].copy_from_slice(&timestamp);
    }
    spoil(&mut datagram, corpus, random);
    datagram
}

/// Gives a datagram up to four faults.
pub fn spoil(datagram: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    for _ in 0..random.below(5) {
        if datagram.is_empty() {
            break;
        }
        let at = random.below(datagram.len());
        match random.below(7) {
            0 => datagram[at] ^= 1 << random.below(8),
            1 => datagram[at] = random.below(256) as u8,
            2 => datagram[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => datagram.truncate(at),
            4 => datagram.resize(datagram.len() + random.below(64), random.below(256) as u8),
            5 => datagram[at.min(15)] = random.below(256) as u8,
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                datagram.truncate(at);
                datagram.extend_from_slice(&other[from..]);
            }
        }
    }
    datagram.truncate(MAX_DATAGRAM);
}

/// Gives what may be STUN its length and the fingerprint without which it is not looked into
/// (RFC 8489 section 14.7).
pub fn with_fingerprint(datagram: &[u8]) -> Vec<u8> {
    let mut message = datagram.to_vec();
    if message.len() < 20 || message[0] > 3 {
        return message;
    }
    message.resize(message.len().next_multiple_of(4), 0);
    let len = (message.len() - 20 + 8) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    let mut crc = u32::MAX;
    for octet in &message {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    message.extend([0x80, 0x28, 0, 4]);
    message.extend((!crc ^ 0x5354_554e).to_be_bytes());
    message
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
