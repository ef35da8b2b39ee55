//! The macro that declares settings: from one entry come the flag, the field of [`Config`], its
//! resolution, and what the documents show.

/// A setting as the documents show it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Flag with its dashes; `None` for a secret, because other users can see the command line.
    pub flag: Option<&'static str>,
    /// Letter of the short flag.
    pub short: Option<char>,
    /// Name of the variable.
    pub variable: &'static str,
    /// Group of settings that it belongs to.
    pub group: &'static str,
    /// What it sets, in one sentence without its period.
    pub meaning: &'static str,
    /// Default, as `--help` says it; empty if `--help` says none.
    pub default: &'static str,
    /// What only `.env.example` says.
    pub notes: &'static str,
}

/// Declares the settings. Text in `shown` follows the meaning in `--help`: `default 0` or
/// `default: …`.
macro_rules! settings {
    (
        secrets {
            $(
                $(#[doc = $sdoc:literal])+
                $secret:ident $(from $file:ident)?: $svariable:literal, shown $sshown:literal,
                notes $snotes:literal;
            )+
        }
        $(
            group $group:literal {
                $(
                    $(args_only { $(#[$extra_meta:meta])* $extra:ident: $extra_ty:ty })?
                    $(#[doc = $doc:literal])+
                    $field:ident: $ty:ty = $flag:literal $(($short:literal))?, $variable:literal,
                    $given:ty [$($arg:tt)*], $parse:expr, or $default:expr $(, shown $shown:literal)?
                    $(, notes $notes:literal)?;
                )+
            }
        )+
    ) => {
        /// Flags of the running node. The help of each flag names its environment variable in
        /// brackets.
        #[derive(Debug, Default, clap::Args)]
        pub struct RunArgs {
            $($(
                $($(#[$extra_meta])* #[arg(help_heading = $group)] pub $extra: $extra_ty,)?
                $(#[doc = $doc])+
                #[arg(
                    $(short = $short,)? long = $flag, help_heading = $group, $($arg)*,
                    help = concat!($($doc,)+ $(" (", $shown, ")",)? " [", $variable, "]").trim_ascii()
                )]
                pub $field: $given,
            )+)+
        }

        /// Configuration of a node.
        #[derive(Clone, Debug)]
        pub struct Config {
            /// `false` for a daemon, which reads no commands from stdin.
            pub has_parent: bool,
            $(
                $(#[doc = $sdoc])+
                pub $secret: Option<Secret>,
                $(
                    #[doc = concat!("Env file that contains `", stringify!($secret), "`, if one does.")]
                    pub $file: Option<PathBuf>,
                )?
            )+
            $($(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+)+
        }

        impl Config {
            /// Resolves each setting, in the order of the declaration.
            pub(super) fn from_sources(args: &RunArgs, from: &Sources<'_>) -> Result<Self, ConfigError> {
                $(let ($secret, _file) = from.secret($svariable)?; $(let $file = _file;)?)+
                $($(
                    let given = Given::text(&args.$field);
                    let found = from.setting(concat!("--", $flag), given, $variable, $parse)?;
                    let $field: $ty = found.unwrap_or_else(|| $default);
                )+)+
                Ok(Config { has_parent: true, $($secret, $($file,)?)+ $($($field,)+)+ })
            }
        }

        /// Every setting, in the order of the declaration.
        pub const SETTINGS: &[Setting] = &[
            $(Setting {
                flag: None,
                short: None,
                variable: $svariable,
                group: "Keys",
                meaning: concat!($($sdoc),+).trim_ascii(),
                default: $sshown,
                notes: $snotes,
            },)+
            $($(Setting {
                flag: Some(concat!("--", $flag)),
                short: { let _short: Option<char> = None; $(let _short = Some($short);)? _short },
                variable: $variable,
                group: $group,
                meaning: concat!($($doc),+).trim_ascii(),
                default: concat!($($shown)?),
                notes: concat!($($notes)?),
            },)+)+
        ];
    };
}

pub(super) use settings;
