//! What requests carry so that a cloud answers them: the keys and tokens that object_store finds, and its signatures.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;

use crate::failure::{Failure, Outcome};

/// By which a target lets its objects be read; none where it is anonymous.
#[derive(Debug, Default)]
pub enum Authority {
    #[default]
    Anonymous,
    Aws {
        credentials: AwsCredentialProvider,
        region: String,
        requester_pays: bool,
    },
    Google(GcpCredentialProvider),
    Azure {
        credentials: AzureCredentialProvider,
        account: String,
    },
}

impl Authority {
    /// Signs a request, or adds the token.
    ///
    /// # Errors
    /// `Store` where no credential can be had.
    pub async fn sign(&self, request: &mut HttpRequest) -> Outcome<()> {
        match self {
            Self::Anonymous => (),
            Self::Aws { credentials, region, requester_pays } => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .with_request_payer(*requester_pays)
                    .try_authorize(request, None)?;
            }
            Self::Google(credentials) => {
                let bearer = &credentials.get_credential().await?.bearer;
                if !bearer.is_empty() {
                    let value = HeaderValue::try_from(format!("Bearer {bearer}"));
                    let value = value.map_err(|_| Failure::Store("the token is no header".to_owned()))?;
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
            }
            Self::Azure { credentials, account } => {
                let credential = credentials.get_credential().await?;
                AzureAuthorizer::new(&credential, account).try_authorize(request)?;
            }
        }
        Ok(())
    }
}
