//! The channel to containerd: lazy, namespaced, surviving containerd's restarts; and its errors in the engine's kinds.
//!
//! Nothing is connected until the first call. A call that finds containerd gone waits for it, at most
//! [`connect::PATIENCE`] from the moment it was missed, and then answers `Unavailable`.

mod connect;
mod status;

pub use status::{error, is_broken, retry};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use containerd_client::services::v1::{
    containers_client::ContainersClient, content_client::ContentClient, diff_client::DiffClient,
    events_client::EventsClient, images_client::ImagesClient, introspection_client::IntrospectionClient,
    leases_client::LeasesClient, namespaces_client::NamespacesClient, snapshots::snapshots_client::SnapshotsClient,
    tasks_client::TasksClient, version_client::VersionClient,
};
use gantry_domain::{Error, Result};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Our namespace in containerd; never Docker's `moby`. A remapped engine has one of its own.
pub const NAMESPACE: &str = "gantry";
/// containerd sends and takes messages up to this size, in bytes; tonic's own limit is lower.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What each generated client runs on.
pub type Service = InterceptedService<Channel, Scope>;

/// Clients for containerd's services, in our namespace and under a lease if one is set. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    control: Channel,
    /// Content and diffs have a connection of their own: a slow reader of a blob fills that connection's window only.
    bulk: Channel,
    scope: Scope,
}

/// Puts namespace and lease into the metadata of each call.
#[derive(Clone, Debug)]
pub struct Scope {
    namespace: Arc<MetadataValue<Ascii>>,
    lease: Option<MetadataValue<Ascii>>,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident on $channel:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $client<Service> {
            $client::with_interceptor(self.$channel.clone(), self.scope.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
        }
    )*};
}

impl Client {
    /// Must be called within a tokio runtime; does not connect yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self {
            control: connect::channel(&socket),
            bulk: connect::channel(&socket),
            socket,
            scope: Scope { namespace: Arc::new(MetadataValue::from_static(NAMESPACE)), lease: None },
        }
    }

    /// The same connections; what is made through it is kept by the lease.
    pub fn with_lease(&self, lease: &str) -> Result<Self> {
        let lease = lease.parse().map_err(|_| Error::invalid(format!("invalid lease name: {lease}")))?;
        Ok(Self { scope: Scope { lease: Some(lease), ..self.scope.clone() }, ..self.clone() })
    }

    /// The same connections, in another namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: MetadataValue<Ascii>) -> Self {
        Self { scope: Scope { namespace: Arc::new(namespace), ..self.scope }, ..self }
    }

    pub fn namespace(&self) -> &str {
        self.scope.namespace.to_str().unwrap_or(NAMESPACE)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    services! {
        version: VersionClient on control;
        namespaces: NamespacesClient on control;
        introspection: IntrospectionClient on control;
        containers: ContainersClient on control;
        tasks: TasksClient on control;
        events: EventsClient on control;
        snapshots: SnapshotsClient on control;
        images: ImagesClient on control;
        leases: LeasesClient on control;
        content: ContentClient on bulk;
        diff: DiffClient on bulk;
    }
}

impl Interceptor for Scope {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.namespace.as_ref().clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        Ok(request)
    }
}
