pub type BindingHash = [u8; 32];
#[derive(Clone, Debug)]
pub struct SignedBinding;
