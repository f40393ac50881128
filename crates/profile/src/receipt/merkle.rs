//! Merkle Tree Hash of RFC 6962 §2.1.

use sha2::{Digest as _, Sha256};

/// Root over 32-byte values, which are sorted as bytes first (11 §2). No value: SHA-256 of nothing.
pub fn merkle_root(values: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut values: Vec<[u8; 32]> = values.into_iter().collect();
    values.sort_unstable();
    if values.is_empty() {
        return Sha256::digest([]).into();
    }
    let mut level: Vec<[u8; 32]> = values.iter().map(|value| hash(&[&[0], value])).collect();
    // Pairing each level from the left, an odd last node going up unchanged, gives the tree of §2.1: every left part
    // is the largest power of two below the number of leaves.
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => hash(&[&[1], left, right]),
                alone => alone[0],
            })
            .collect();
    }
    level[0]
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, word for word.
    fn definition(sorted: &[[u8; 32]]) -> [u8; 32] {
        match sorted {
            [] => hash(&[]),
            [leaf] => hash(&[&[0], leaf]),
            _ => {
                let half = sorted.len().next_power_of_two() / 2;
                let (left, right) = sorted.split_at(half);
                hash(&[&[1], &definition(left), &definition(right)])
            }
        }
    }

    #[test]
    fn the_root_is_the_one_of_the_definition_for_every_count() {
        for count in 0..130_u8 {
            let mut values: Vec<[u8; 32]> = (0..count).map(|n| Sha256::digest([n]).into()).collect();
            let root = merkle_root(values.clone());
            values.sort_unstable();
            assert_eq!(root, definition(&values), "{count} leaves");
        }
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(hex::encode(merkle_root([])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
