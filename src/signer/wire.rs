//! The clients and messages generated from proto/; those that carry secrets are wiped when dropped.

/// lnd's package `lnrpc`.
#[allow(missing_docs, reason = "generated; proto/ says what each is")]
pub mod lnrpc {
    tonic::include_proto!("lnrpc");
}

/// lnd's package `signrpc`.
#[allow(missing_docs, reason = "generated; proto/ says what each is")]
pub mod signrpc {
    tonic::include_proto!("signrpc");
}

/// lnd's package `walletrpc`.
#[allow(missing_docs, reason = "generated; proto/ says what each is")]
pub mod walletrpc {
    tonic::include_proto!("walletrpc");
}

macro_rules! wiped {
    ($($message:ident { $($field:ident),+ })+) => {$(
        impl Drop for lnrpc::$message {
            fn drop(&mut self) {
                $(zeroize::Zeroize::zeroize(&mut self.$field);)+
            }
        }
    )+};
}

// What tonic and h2 copy into their own buffers on the way cannot be reached; what is ours is wiped.
wiped! {
    GenSeedRequest { aezeed_passphrase }
    GenSeedResponse { cipher_seed_mnemonic }
    InitWalletRequest { wallet_password, cipher_seed_mnemonic, aezeed_passphrase }
    InitWalletResponse { admin_macaroon }
    UnlockWalletRequest { wallet_password }
    ChangePasswordRequest { current_password, new_password }
    ChangePasswordResponse { admin_macaroon }
    BakeMacaroonResponse { macaroon }
}
