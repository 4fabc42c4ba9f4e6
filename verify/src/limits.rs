//! Bounds on hostile input. Each number says where it comes from.

/// Largest bundle that is read, in bytes. A bundle carries an attestation's payload (SBOMs of tens of
/// megabytes exist, see [`MAX_PAYLOAD`]) in base64; everything else in it is small.
pub const MAX_BUNDLE: usize = 144 << 20;

/// Largest DSSE payload, in bytes. Ours: 104 MiB, a bill of material of 100 MB with room to spare; GitHub's
/// attestation action allows 16 MiB, cosign attachments of 128 MiB.
pub const MAX_PAYLOAD: usize = 104 << 20;

/// Largest trusted root file, in bytes. The public-good one is 7 KiB; ours: room for a thousand keys.
pub const MAX_TRUSTED_ROOT: usize = 4 << 20;

/// Most log entries in one bundle (sigstore-go has the same limit).
pub const MAX_LOG_ENTRIES: usize = 32;

/// Most timestamps in one bundle (sigstore-go has the same limit).
pub const MAX_TIMESTAMPS: usize = 32;

/// Most certificates in a bundle's chain (Rekor takes at most ten).
pub const MAX_CHAIN: usize = 10;

/// Largest simple signing payload, in bytes. Cosign's have some 300; ours: room for annotations.
pub const MAX_SIMPLE_SIGNING: usize = 64 << 10;

/// Most subjects of one in-toto statement (sigstore-go has the same limit).
pub const MAX_SUBJECTS: usize = 1024;

/// Most members of a statement's predicate that are looked at together: those of an object, and of the objects that it
/// is in. Lists of a hundred thousand files exist; ours: ten times that.
pub const MAX_MEMBERS: usize = 1 << 20;

/// Most digests of one subject (sigstore-go has the same limit).
pub const MAX_SUBJECT_DIGESTS: usize = 32;

/// Most annotations of one subject. Cosign's have those that whoever signs names one by one; ours.
pub const MAX_SUBJECT_ANNOTATIONS: usize = 256;

/// Largest certificate, in bytes DER. Fulcio's are near 1 KiB; a log entry ends at 64 KiB anyway.
pub const MAX_CERTIFICATE: usize = 64 << 10;

/// Most extensions of one certificate. Fulcio's have near 30.
pub const MAX_EXTENSIONS: usize = 256;

/// Largest extension with what our authority's policy found, in bytes. Real ones have some 400; ours: room for
/// long names and fifty roles.
pub const MAX_ASSERTION: usize = 8 << 10;

/// Largest RFC 3161 response, in bytes DER. Real ones are 1 to 6 KiB.
pub const MAX_TIMESTAMP: usize = 256 << 10;

/// Largest checkpoint with its signatures, in bytes. Sixteen ML-DSA cosignatures fit.
pub const MAX_CHECKPOINT: usize = 128 << 10;

/// Largest log entry, in bytes: the u16 length of a C2SP entry bundle.
pub const MAX_ENTRY: usize = 65_535;

/// Most hashes in an inclusion or consistency proof: one a level of a tree of 2^63 leaves.
pub const MAX_PROOF: usize = 64;

/// Most signature lines in a note. C2SP signed-note asks readers to take at least 16.
pub const MAX_NOTE_SIGNATURES: usize = 100;

/// Most hashes in a consistency proof that a log sends to a witness (C2SP tlog-witness).
pub const MAX_WITNESS_PROOF: usize = 63;

/// Largest witness policy, in bytes. A hundred lines with ML-DSA keys fit.
pub const MAX_WITNESS_POLICY: usize = 256 << 10;

/// Most lines of a witness policy, comments aside. C2SP tlog-policy asks for 32 logs, 32 witnesses and 32
/// groups at least.
pub const MAX_WITNESS_POLICY_LINES: usize = 300;

/// Largest list of logs for a witness, in bytes. The witness network's have hundreds of bytes a log; ours:
/// room for ten thousand.
pub const MAX_WITNESS_LOGS: usize = 4 << 20;
