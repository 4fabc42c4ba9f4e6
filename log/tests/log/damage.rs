use crate::support::{Memory, Place, append, body, fill};
use countersign_log::store::{CheckpointLock as _, Files};
use countersign_log::{AppendError, OpenError, fsck};
use countersign_verify::merkle::Hash;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(objects(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[tokio::test]
async fn an_outsider_names_the_object_that_is_damaged_or_missing() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 600).await;
    log.close().await;
    let folder = place.log_folder();
    let files = objects(&folder);
    let names: Vec<_> = files
        .iter()
        .map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            ".staged-1",
            "checkpoint",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.part",
            "tile/1/000.part",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.part",
        ]
    );
    // What an outsider calls a partial tile is a file that grows.
    let named = |error: &fsck::Error| match error.path().unwrap().split_once(".p/") {
        Some((full, _)) => format!("{full}.part"),
        None => error.path().unwrap().to_owned(),
    };
    for (path, name) in files.iter().zip(&names).skip(1) {
        let whole = fs::read(path).unwrap();
        for place_in_file in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[place_in_file] ^= 1;
            fs::write(path, damaged).unwrap();
            let error = place.fsck().await.unwrap_err();
            assert_eq!(named(&error), *name, "byte {place_in_file}: {error}");
        }
        fs::write(path, &whole[..whole.len() - 1]).unwrap();
        let error = place.fsck().await.unwrap_err();
        assert_eq!(named(&error), *name, "cut: {error}");
        fs::remove_file(path).unwrap();
        assert_eq!(named(&place.fsck().await.unwrap_err()), *name);
        fs::write(path, whole).unwrap();
    }
    assert_eq!(place.fsck().await.unwrap().size, 600);
}

#[tokio::test]
async fn an_outsider_counts_repeated_entries() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 5).await;
    log.close().await;
    // A log whose table was lost takes entries twice; that is legal, and to be seen.
    let (store, lock) = place.parts().await;
    let note = lock.load().await.unwrap().unwrap();
    let other = Place::new();
    let (_, empty) = other.parts().await;
    empty.compare_and_swap(None, &note, 0, &[]).await.unwrap();
    let log = place.open_on((store, empty)).await.unwrap();
    assert_eq!(append(&log, &body(2)).await.unwrap().index, 5);
    log.close().await;
    assert_eq!(place.fsck().await.unwrap().repeated, 1);
}

#[tokio::test]
async fn a_log_whose_parts_disagree_does_not_open() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 3).await;
    log.close().await;
    let older = fs::read(place.log_folder().join("checkpoint")).unwrap();
    let copy = place.log_folder().with_file_name("copy");
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg("-a").args([&place.log_folder(), &copy]).status().unwrap().success());
    let copied = Files::open(copy).unwrap();
    let log = place.open().await;
    fill(&log, 3, 300).await;
    log.close().await;
    let newer = fs::read(place.log_folder().join("checkpoint")).unwrap();

    let other = Place::new();
    let log = other.open().await;
    fill(&log, 0, 2).await;
    log.close().await;

    // The database was lost, then the checkpoint as well: the log is not begun anew.
    let fresh = Place::new();
    let (empty, lock) = fresh.parts().await;
    let checkpoint = place.log_folder().join("checkpoint");
    for _ in 0..2 {
        let (store, lock) = (place.parts().await.0, Arc::clone(&lock));
        let refused = place.open_on((store, lock)).await.err().unwrap();
        assert!(matches!(refused, OpenError::LockMissing), "{refused}");
        let _ = fs::remove_file(&checkpoint); // the second time it is gone
    }
    fs::write(&checkpoint, &newer).unwrap();
    // The database is an older one, and what it lacks is not staged any more.
    for staged in [".staged-0", ".staged-1"] {
        let _ = fs::remove_file(place.log_folder().join(staged)); // there may be one
    }
    let (store, lock) = place.parts().await;
    let old = Place::new();
    let (_, restored) = old.parts().await;
    restored.compare_and_swap(None, std::str::from_utf8(&older).unwrap(), 0, &[]).await.unwrap();
    let refused = place.open_on((store, restored)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Disagree { .. }), "{refused}");
    // The tiles were lost.
    let refused = place.open_on((empty, lock)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    // The folder is an older copy.
    let refused = place.open_on((Arc::new(copied), place.parts().await.1)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    // The key is another one.
    let refused = other.open_on(place.parts().await).await.err().unwrap();
    assert!(matches!(refused, OpenError::LockCheckpoint(_)), "{refused}");
    // An older checkpoint is published: nothing is lost, it is published again.
    fs::write(&checkpoint, older).unwrap();
    place.open().await.close().await;
    assert_eq!(fs::read(&checkpoint).unwrap(), newer);

    for (name, damage) in [
        ("tile/0/001.part", 3),
        ("tile/1/000.part", 3),
        ("tile/entries/001.part", 100),
        ("checkpoint", 20),
    ] {
        let path = place.log_folder().join(name);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[damage] ^= 1;
        fs::write(&path, damaged).unwrap();
        let refused = place.try_open().await.err().unwrap();
        assert!(!refused.is_transient(), "{name}: {refused}");
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(place.open().await.head().checkpoint().size, 300);
}

/// An older database would have the log sign another tree over what was acknowledged.
#[tokio::test]
async fn a_log_with_tiles_past_its_lock_does_not_open_whatever_is_stored() {
    let place = Place::new();
    let lock = Arc::new(Memory::default());
    let mut notes = Vec::new();
    let sizes = [0, 1, 3, 255, 256, 257, 300, 511, 512, 600];
    for size in sizes {
        // Each opens what the one before has left.
        let log = place.open_on((Arc::new(place.files()), lock.clone())).await.unwrap();
        fill(&log, log.head().checkpoint().size, size).await;
        log.close().await;
        notes.push(lock.load().await.unwrap().unwrap());
    }
    let (last, older) = notes.split_last().unwrap();
    let checkpoint = place.log_folder().join("checkpoint");
    for (size, note) in sizes.iter().zip(older) {
        for stored in [None, Some(note)] {
            match stored {
                None => fs::remove_file(&checkpoint).unwrap(),
                Some(note) => fs::write(&checkpoint, note).unwrap(),
            }
            let lock = Arc::new(Memory::default());
            lock.compare_and_swap(None, note, 0, &[]).await.unwrap();
            for staged in [".staged-0", ".staged-1"] {
                let _ = fs::remove_file(place.log_folder().join(staged)); // it may be gone
            }
            let refused = place.open_on((Arc::new(place.files()), lock)).await.err();
            let told =
                matches!(&refused, Some(OpenError::LockOlder { size: found }) if found == size);
            assert!(told, "{size}, stored {}: {refused:?}", stored.is_some());
        }
    }
    let log = place.open_on((Arc::new(place.files()), lock.clone())).await.unwrap();
    assert_eq!(log.head().note(), last, "nothing was written");
    fill(&log, 600, 601).await;
    log.close().await;
    assert_eq!(place.fsck().await.unwrap().size, 601);
}

/// The power takes the last swaps of a database, not the batches that were staged for them.
#[tokio::test]
async fn what_a_lock_has_lost_of_late_is_swapped_in_again_with_its_identities() {
    let place = Place::new();
    let lock = Arc::new(Memory::default());
    let log = place.open_on((Arc::new(place.files()), lock.clone())).await.unwrap();
    let (mut older, mut size) = (Vec::new(), 0);
    for end in [1, 2, 300, 301, 302] {
        older.push((size, lock.copy()));
        fill(&log, size, end).await;
        size = end;
    }
    log.close().await;
    let root = log.head().checkpoint().root;
    let mut recovered = 0;
    for (lost_from, lock) in older.into_iter().rev() {
        let lock = Arc::new(lock);
        let log = match place.open_on((Arc::new(place.files()), lock.clone())).await {
            Ok(log) => log,
            // What settled long ago is not staged any more.
            Err(OpenError::LockOlder { size }) if recovered > 0 => {
                assert_eq!(size, lost_from);
                continue;
            }
            Err(error) => panic!("{lost_from}: {error}"),
        };
        recovered += 1;
        assert_eq!((log.head().checkpoint().size, log.head().checkpoint().root), (302, root));
        assert_eq!(log.key().open(&lock.load().await.unwrap().unwrap()).unwrap().size, 302);
        for number in [0, 1, 2, 299, 300, 301] {
            let again = append(&log, &body(number)).await.unwrap();
            assert_eq!((again.index, again.record), (number, None), "lost from {lost_from}");
        }
        log.close().await;
    }
    assert_eq!(place.fsck().await.unwrap().size, 302);
}

/// Nothing but a restored database or a stolen key makes a lock name a tree that the store does not have.
#[tokio::test]
async fn a_log_that_contradicts_itself_halts_says_so_and_goes_on_once_it_is_mended() {
    let place = Place::new();
    let lock = Arc::new(Memory::default());
    let log = place.open_on((Arc::new(place.files()), lock.clone())).await.unwrap();
    append(&log, &body(0)).await.unwrap();
    assert!(!log.is_halted());
    let own = lock.load().await.unwrap().unwrap();
    let foreign = place.signer().sign(99, Hash::of(b"another tree")).unwrap();
    lock.compare_and_swap(Some(&own), &foreign, 0, &[]).await.unwrap();
    while !log.is_halted() {
        let refused = append(&log, &body(1)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Conflict | AppendError::Halted(_)), "{refused}");
    }
    assert!(matches!(append(&log, &body(1)).await, Err(AppendError::Halted(_))));
    lock.compare_and_swap(Some(&foreign), &own, 0, &[]).await.unwrap();
    assert_eq!(append(&log, &body(1)).await.unwrap().index, 1);
    assert!(!log.is_halted());
}
