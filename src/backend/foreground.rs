//! The foreground backend: a signer of the user who runs lsm, in one folder, for a trial.
