//! The fuzz targets on any compiler: each over real seeds and some thousand mutations of them.
//! The mutations follow from a fixed seed, so that a failure comes again.

use countersign_fuzz::TARGETS;
use countersign_testkit::Instance;
use countersign_verify::Bundle;

/// Mutations of each seed for each target: the whole test takes about a second.
const ROUNDS: usize = 400;

fn seeds() -> Vec<Vec<u8>> {
    let instance = Instance::new();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    let bundle = instance.sign(&signer, b"artifact");
    let attestation = instance.attest(&signer, b"artifact");
    let statement = match attestation.content() {
        countersign_verify::bundle::Content::Dsse(envelope) => envelope.payload.clone(),
        countersign_verify::bundle::Content::Message(_) => unreachable!("attest makes envelopes"),
    };
    let checkpoint = |bundle: &Bundle| bundle.entries()[0].proof.clone().unwrap().checkpoint;
    vec![
        bundle.to_json().into_bytes(),
        attestation.to_json().into_bytes(),
        bundle.entries()[0].to_json().into_bytes(),
        signer.certificate().to_vec(),
        checkpoint(&bundle).into_bytes(),
        bundle.timestamps()[0].clone(),
        instance.trusted_root().into_bytes(),
        statement,
        b"tile/0/x001/x234/067.p/9".to_vec(),
        countersign_verify::tile::encode_entries([b"one", b"two"]),
        vec![],
    ]
}

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
    for seed in seeds() {
        for (_, target) in TARGETS {
            target(&seed);
            for _ in 0..ROUNDS {
                target(&mutate(&seed, &mut random));
            }
        }
    }
}
