//! ListMetricDescriptors: which metrics there are.

use skiff_cri::v1::{ListMetricDescriptorsRequest, ListMetricDescriptorsResponse};
use skiff_stats::metric;

use super::RpcError;

/// Always the same: a kubelet asks once in its life.
pub async fn handle(
    _: ListMetricDescriptorsRequest,
) -> Result<ListMetricDescriptorsResponse, RpcError> {
    Ok(ListMetricDescriptorsResponse {
        descriptors: metric::descriptors(),
    })
}
