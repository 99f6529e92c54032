//! Enums whose values have a name in JSON and addresses, each listed once.

/// Makes an enum with `ALL` of its values in order, and the `name` of each.
macro_rules! named {
    ($(#[$about:meta])* pub enum $Type:ident { $($(#[$value:meta])* $Value:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Type {
            $($(#[$value])* $Value,)+
        }

        impl $Type {
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Value),+];

            /// The name in every JSON and address.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$Value => $name,)+
                }
            }
        }
    };
}
pub(crate) use named;
