//! The table of entries, made again from tiles.

use crate::support::{ORIGIN, Place, append, body, fill};
use countersign_log::Format;
use countersign_log::read::Reader;
use countersign_log::reindex::{Table, table};
use countersign_log::store::Sqlite;
use std::sync::Arc;

#[tokio::test]
async fn a_table_that_was_damaged_is_made_again_and_answers_repeats_as_before() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 600).await;
    log.close().await;
    let reader =
        Reader::open(Arc::new(place.files()), &place.key(), Format::Entries).await.unwrap();
    let database = Sqlite::open(&place.database()).await.unwrap();
    // As somebody does who mends by hand.
    let hand = rusqlite::Connection::open(place.database()).unwrap();
    let lock = database.lock(ORIGIN).await.unwrap();
    let whole = Table { entries: 600, differed: false };
    // The latest entries, which are not in the sorted table yet.
    hand.execute_batch("UPDATE latest SET identities = substr(identities, 2) WHERE row = (SELECT max(row) FROM latest)")
        .unwrap();
    let told = place.try_open().await.err().unwrap().to_string();
    assert!(told.contains("`countersign log reindex` makes the table anew"), "{told}");
    assert!(table(&reader, &lock).await.unwrap().differed);
    assert_eq!(table(&reader, &lock).await.unwrap(), whole);
    for damage in [
        "DELETE FROM leaves WHERE leaf % 7 = 3",
        "UPDATE leaves SET leaf = leaf + 1 WHERE leaf = 300",
        "INSERT INTO leaves (log, identity, leaf) SELECT 1, zeroblob(32), 9",
        "UPDATE leaves SET leaf = CASE leaf WHEN 5 THEN 6 ELSE 5 END WHERE leaf IN (5, 6)",
    ] {
        hand.execute_batch(damage).unwrap();
        assert!(table(&reader, &lock).await.unwrap().differed, "{damage}");
        assert_eq!(table(&reader, &lock).await.unwrap(), whole, "{damage}");
    }
    // Tiles that are damaged mend nothing.
    let bundle = place.log_folder().join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    hand.execute_batch("DELETE FROM leaves WHERE leaf = 400").unwrap();
    assert!(table(&reader, &lock).await.is_err());
    let left: i64 = hand.query_row("SELECT count(*) FROM leaves", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 599);
    let log = place.open().await;
    assert_eq!(append(&log, &body(5)).await.unwrap().index, 5);
}
