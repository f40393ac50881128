//! Refusals of a join (profile 10 §6.4). Their texts stand in `errors.toml`, `[[problems]]`.

/// IDR-J-01 … IDR-J-09.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinCode {
    /// The token is unknown, expired, burned or not yet approved: one answer for all.
    Token,
    /// Request or certificate outside the binding.
    Binding,
    /// The token was used with other keys.
    OtherKeys,
    /// Key or certificate outside 10 §5.2.
    Profile,
    /// The proof is wrong, or its nonce is not in force.
    Proof,
    /// Too many requests.
    Rate,
    /// Issuing key, store or audit are away; the token is not burned.
    Unavailable,
    /// Not JSON, an unknown member, too long.
    Malformed,
    /// The clock of the site differs by more than 60 s.
    Clock,
}

impl JoinCode {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::Binding,
        Self::OtherKeys,
        Self::Profile,
        Self::Proof,
        Self::Rate,
        Self::Unavailable,
        Self::Malformed,
        Self::Clock,
    ];

    /// `J-01` …: the code of its row of `[[problems]]`, without `IDR-`.
    pub fn id(self) -> &'static str {
        ["J-01", "J-02", "J-03", "J-04", "J-05", "J-06", "J-07", "J-08", "J-09"][self as usize]
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        [401, 422, 409, 422, 422, 429, 503, 400, 412][self as usize]
    }

    /// `Retry-After`, seconds.
    pub fn retry_after_seconds(self) -> Option<u32> {
        matches!(self, Self::Rate | Self::Unavailable).then_some(60)
    }

    /// Whether it counts as one of the five tries that a token has: the peer had a token in force, and asked for what it does not
    /// give.
    pub fn counts_as_try(self) -> bool {
        matches!(self, Self::Binding | Self::Profile | Self::Proof)
    }

    /// The code of a problem type, `urn:x-idr:problem:IDR-J-nn`.
    pub fn of_problem_type(text: &str) -> Option<Self> {
        let id = text.strip_prefix("urn:x-idr:problem:IDR-")?;
        Self::ALL.into_iter().find(|code| code.id() == id)
    }

    /// What an operator of the site can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Token => "ask the centre whether the invite is approved, and for a new join string if it is used up or too old",
            Self::Binding => "names or organisation are not those of the invite; ask the centre for an invite that has them",
            Self::OtherKeys => "the join string was used by somebody with other keys; tell the centre at once, and ask for a new one",
            Self::Profile => {
                "a key or certificate is outside the profile: EC P-256, P-384 or RSA of 2048 to 4096 bits, SHA-256 or stronger"
            }
            Self::Proof => "give the command again; the private key must be that of the certificate",
            Self::Rate => "wait a minute, then give the command again",
            Self::Unavailable => "the centre cannot enrol now; give the command again later, the join string stays good",
            Self::Malformed => "site and centre have different versions; update the older one",
            Self::Clock => "set the clock of this machine (NTP), then give the command again",
        }
    }
}
