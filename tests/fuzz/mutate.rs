//! Bends valid inputs: flips, cuts, repeats and exchanges of bytes, alone and many together.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Values that lengths, counts and flags break at.
const EDGES: &[u8] = &[0, 1, 0x7f, 0x80, 0xfe, 0xff];

/// Gives `target` many bent copies of the samples. A panic in it says which input to play again.
pub fn bend(name: &str, samples: &[Vec<u8>], mut target: impl FnMut(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let inputs = number("CHORUS_FUZZ_INPUTS").unwrap_or(1_500);
    let seed = number("CHORUS_FUZZ_SEED").unwrap_or_else(rand::random);
    samples.iter().for_each(|sample| target(sample));
    let mut random = Source(StdRng::seed_from_u64(seed));
    for input in 0..inputs {
        let bent = random.bent(samples);
        let playing = Playing { name, input, seed, bytes: &bent };
        target(playing.bytes);
    }
}

/// Tells of itself if it ends in a panic.
struct Playing<'a> {
    name: &'a str,
    input: u64,
    seed: u64,
    bytes: &'a [u8],
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Playing { name, input, seed, bytes } = self;
            let head = &bytes[..bytes.len().min(1_000)];
            eprintln!("{name}: input {input} of CHORUS_FUZZ_SEED={seed}: {} bytes: {head:02x?}", bytes.len());
        }
    }
}

struct Source(StdRng);

impl Source {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end.max(1) as u64) as usize
    }

    fn bent(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(samples.len());
        let mut bytes = samples[at].clone();
        for _ in 0..=self.below(6) {
            self.bend_once(&mut bytes, samples);
        }
        bytes
    }

    fn bend_once(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let span = 1 + self.below(16);
        let end = (at + span).min(bytes.len());
        match self.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.0.next_u32() as u8,
            2 if !bytes.is_empty() => bytes[at] = EDGES[self.below(EDGES.len())],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            6 => {
                let fresh: Vec<u8> = (0..span).map(|_| self.0.next_u32() as u8).collect();
                bytes.splice(at..at, fresh);
            }
            7 => {
                // Numbers as files hold them: the whole field at an edge.
                let edge = EDGES[self.below(EDGES.len())];
                bytes[at..(at + 8).min(end)].fill(edge);
            }
            _ => {
                let other = &samples[self.below(samples.len())];
                let from = self.below(other.len());
                let piece = &other[from..(from + span * 4).min(other.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
        }
    }
}
