//! The fuzz targets on any compiler: each over real seeds and some thousand mutations of them.
//! The mutations follow from a fixed seed, so that a failure comes again.

use countersign_fuzz::{TARGETS, seeds};

/// Mutations of each seed; those of one target go to all of them, a tenth as often.
const ROUNDS: usize = 400;

/// SplitMix64: enough to choose places and values.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, u8::try_from(random.below(256)).unwrap()),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            3 => {
                let end = place + random.below(bytes.len() - place.min(bytes.len()));
                let copy = bytes[place.min(bytes.len())..end.min(bytes.len())].to_vec();
                bytes.splice(place..place, copy);
            }
            _ if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn no_target_panics_on_mutated_seeds() {
    let mut random = Random(20_261_123);
    for (home, _) in TARGETS {
        let seeds = seeds::of(home);
        assert!(!seeds.is_empty(), "{home} begins with something");
        for seed in seeds.iter().map(Vec::as_slice).chain([&b""[..]]) {
            for (name, target) in TARGETS {
                target(seed);
                let rounds = if name == home { ROUNDS } else { ROUNDS / 10 };
                (0..rounds).for_each(|_| target(&mutate(seed, &mut random)));
            }
        }
    }
}
