//! Generated names.

use crate::world::Random;

/// Letters and digits that make no words and are not mistaken for each other.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_CHARS: usize = 5;
/// A generated name is a DNS label at most.
const NAME_BYTES_MAX: usize = 63;

/// Five random characters.
pub fn suffix(random: &Random) -> String {
    (0..SUFFIX_CHARS).map(|_| char::from(ALPHABET[random.within(0..ALPHABET.len() as u64) as usize])).collect()
}

/// `base`, cut where it is too long, and a random suffix.
pub fn generate(random: &Random, base: &str) -> String {
    let mut end = base.len().min(NAME_BYTES_MAX - SUFFIX_CHARS);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], suffix(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bases_are_cut() {
        let random = Random::from_seed(1);
        assert_eq!(generate(&random, "www-").len(), 9);
        let long = generate(&random, &"x".repeat(100));
        assert_eq!(long.len(), NAME_BYTES_MAX);
        assert_eq!(generate(&random, &"é".repeat(40)).len(), NAME_BYTES_MAX);
    }
}
