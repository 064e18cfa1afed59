use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn what_others_hand_over_in_their_turn_is_taken_and_nothing_is_waited_for() {
    let (hand_over, mut taken) = mpsc::channel(1);
    assert_eq!(at_once(taken.recv()).await, None, "nobody sends");
    hand_over.send(1).await.expect("room");
    assert_eq!(at_once(taken.recv()).await, Some(Some(1)), "it was there");
    // As a connection does: one piece, and the next once there is room.
    tokio::spawn(async move {
        for piece in 2..=4 {
            hand_over.send(piece).await.expect("somebody takes them");
        }
        std::future::pending::<()>().await;
    });
    for piece in 2..=4 {
        assert_eq!(at_once(taken.recv()).await, Some(Some(piece)));
    }
    assert_eq!(at_once(taken.recv()).await, None);
}
