//! Frames of a stream as the node writes them.

use bytes::Bytes;

use crate::headers::RECEIPT_EVENT;

/// `data: <payload>` and a blank line. The payload holds no line breaks, as compact JSON never
/// does.
pub(crate) fn data(payload: &[u8]) -> Bytes {
    [b"data: ", payload, b"\n\n"].concat().into()
}

/// The receipt's own event.
pub(crate) fn receipt(envelope: &[u8]) -> Bytes {
    [
        b"event: ",
        RECEIPT_EVENT.as_bytes(),
        b"\ndata: ",
        envelope,
        b"\n\n",
    ]
    .concat()
    .into()
}

/// Whether a frame of an upstream is one that only Longrun may send.
pub(crate) fn is_longrun(name: Option<&Bytes>) -> bool {
    name.is_some_and(|name| name.starts_with(b"longrun."))
}
