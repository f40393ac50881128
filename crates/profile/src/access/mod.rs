//! Access: who may see what (profile 05).
