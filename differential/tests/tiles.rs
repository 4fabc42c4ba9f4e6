//! What a log serves, walked over HTTP by the crate `tlog_tiles`: it must come to the root that the log
//! signed, from the entries and from the tiles, and prove entries and history to itself.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::face::rekor_v2::Face;
use countersign_log::store::{Files, Sqlite};
use countersign_log::{Candidate, Format, Log, Options, Signer, http};
use reqwest::Client;
use std::path::Path;
use std::sync::Arc;
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader, Tile, TileHashReader, TileReader, check_record,
    check_tree, prove_record, prove_tree, record_hash, stored_hashes, tree_hash,
};
use tokio::runtime::Runtime;

/// Enough for tiles of three levels, none of them full at the edge.
const SIZE: u64 = 66_000;

struct Server {
    runtime: Runtime,
    client: Client,
    base: String,
    log: Log,
    /// A byte of this tile is not as it was.
    damaged: Option<String>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let (log, base) = runtime.block_on(async {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let signer = Signer::ed25519("log.example.test", pkcs8.as_ref()).unwrap();
            let store = Arc::new(Files::open(folder.join("log")).unwrap());
            let database = Sqlite::open(&folder.join("log.db")).await.unwrap();
            let lock = Arc::new(database.lock("log").await.unwrap());
            let options = Options::new(Format::Entries);
            let log = Log::open(options, signer, store, lock).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base = format!("http://{}/api/v2", listener.local_addr().unwrap());
            let router = http::rekor_v2(Face::new(log.clone()));
            tokio::spawn(async move { axum::serve(listener, router).await });
            (log, base)
        });
        Self { runtime, client: Client::new(), base, log, damaged: None }
    }

    fn append(&self, until: u64) {
        let mut next = self.log.head().checkpoint().size;
        while next < until {
            let end = until.min(next + 1000);
            self.runtime.block_on(async {
                let entry = |index| Candidate::entry(format!("entry {index}").as_bytes()).unwrap();
                let appends = (next..end).map(|index| self.log.append(entry(index)));
                futures_util::future::try_join_all(appends).await.unwrap();
            });
            next = end;
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let reply = self.client.get(format!("{}/{path}", self.base)).send().await.unwrap();
            assert_eq!(reply.status(), 200, "{path}");
            reply.bytes().await.unwrap().to_vec()
        })
    }

    /// Size and root, as signed.
    fn head(&self) -> (u64, Hash) {
        let note = self.get("checkpoint");
        let end = note.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let checkpoint = Checkpoint::from_bytes(&note[..=end]).unwrap();
        (checkpoint.size(), *checkpoint.hash())
    }

    /// All entries, by the lengths before them.
    fn entries(&self, size: u64) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        for bundle in 0..size.div_ceil(256) {
            let width = (size - bundle * 256).min(256);
            let tile = Tile::new(8, 0, bundle, u32::try_from(width).unwrap(), false);
            let path = path(&tile).replacen("tile/0/", "tile/entries/", 1);
            let mut rest = &self.get(&path)[..];
            while let [high, low, tail @ ..] = rest {
                let (entry, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                entries.push(entry.to_vec());
                rest = tail;
            }
        }
        entries
    }
}

/// The crate names the tiles' height as well.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

impl TileReader for Server {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| {
            let mut bytes = self.get(&path(tile));
            if self.damaged.as_ref().is_some_and(|damaged| *damaged == path(tile)) {
                bytes[7] ^= 1;
            }
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// The hashes of a tree, in the crate's order.
#[derive(Default)]
struct Hashes(Vec<Hash>);

impl HashReader for Hashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

#[test]
fn another_reader_comes_to_the_signed_root_and_proves_entries_and_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    server.append(700);
    let (old_size, old_root) = server.head();
    server.append(SIZE);
    let (size, root) = server.head();
    assert_eq!((old_size, size), (700, SIZE));

    let entries = server.entries(size);
    let mut hashes = Hashes::default();
    for (index, entry) in (0..).zip(&entries) {
        let new = stored_hashes(index, entry, &hashes).unwrap();
        hashes.0.extend(new);
    }
    assert_eq!(tree_hash(size, &hashes).unwrap(), root, "from the entries");
    assert_eq!(tree_hash(old_size, &hashes).unwrap(), old_root, "from the entries of that time");

    let tiles = TileHashReader::new(size, root, &server);
    assert_eq!(tree_hash(size, &tiles).unwrap(), root, "from the tiles");
    for index in [0, 1, 255, 256, 699, 700, 65_535, 65_536, SIZE - 1] {
        let proof = prove_record(size, index, &tiles).unwrap();
        let hash = record_hash(&entries[usize::try_from(index).unwrap()]);
        check_record(&proof, size, root, index, hash).unwrap();
        assert!(check_record(&proof, size, root, index, record_hash(b"another")).is_err());
    }
    let proof = prove_tree(size, old_size, &tiles).unwrap();
    check_tree(&proof, size, root, old_size, old_root).unwrap();

    // A damaged hash is beside the record's way to the root.
    for (damaged, index) in [("tile/0/000", 1), ("tile/1/000", 300), ("tile/2/000.p/1", SIZE - 1)] {
        server.damaged = Some(damaged.to_owned());
        let tiles = TileHashReader::new(size, root, &server);
        let hash = record_hash(&entries[usize::try_from(index).unwrap()]);
        let proven = prove_record(size, index, &tiles)
            .and_then(|proof| check_record(&proof, size, root, index, hash));
        assert!(proven.is_err(), "{damaged}");
    }
}
