//! Custody receipts (profile 11): what one holder says about one object, signed and chained.
