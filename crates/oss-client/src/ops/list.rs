//! One page of a listing.

use http::Method;
use oss_protocol::xml::{XmlError, list::ListObjectsV2Result, listed::ListedObjects};

use super::parse_body;
use crate::{client::Client, error::Result, metrics::METRICS, request::Request, retry::RetryBudget};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that start with this.
    pub prefix: String,
    /// Only keys after this one.
    pub start_after: Option<String>,
    /// Keys that share what follows the prefix up to this are rolled up into one common prefix.
    pub delimiter: Option<String>,
    /// Most keys and common prefixes of a page: 1 to [`MOST_KEYS`]; if absent, [`MOST_KEYS`].
    pub max_keys: Option<u16>,
}

/// Keys and common prefixes of a full page.
pub const MOST_KEYS: u16 = 1000;

/// 1,000 keys of 1,023 bytes, each byte percent-encoded, with their elements.
const PAGE_LIMIT: usize = 16 << 20;

impl Client {
    /// Lists one page: the first, or the one that `continuation` names.
    pub async fn list_page(
        &self,
        bucket: &str,
        options: &ListOptions,
        continuation: Option<&str>,
    ) -> Result<ListObjectsV2Result> {
        self.list_page_within(bucket, options, continuation, &mut self.budget()).await
    }

    /// [`Client::list_page`] within a budget.
    pub(crate) async fn list_page_within(
        &self,
        bucket: &str,
        options: &ListOptions,
        continuation: Option<&str>,
        budget: &mut RetryBudget,
    ) -> Result<ListObjectsV2Result> {
        self.page(bucket, options, continuation, ListObjectsV2Result::parse, budget).await
    }

    /// [`Client::list_page_within`] with no more of each object than a listing of millions needs, or with its details.
    pub(crate) async fn list_packed_within(
        &self,
        bucket: &str,
        options: &ListOptions,
        continuation: Option<&str>,
        detailed: bool,
        budget: &mut RetryBudget,
    ) -> Result<ListedObjects> {
        let parse = if detailed { ListedObjects::parse_detailed } else { ListedObjects::parse };
        self.page(bucket, options, continuation, parse, budget).await
    }

    async fn page<T>(
        &self,
        bucket: &str,
        options: &ListOptions,
        continuation: Option<&str>,
        parse: impl Fn(&[u8]) -> std::result::Result<T, XmlError>,
        budget: &mut RetryBudget,
    ) -> Result<T> {
        let mut request = Request::bucket(Method::GET, bucket)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", options.max_keys.unwrap_or(MOST_KEYS).to_string());
        if !options.prefix.is_empty() {
            request = request.query("prefix", options.prefix.as_str());
        }
        if let Some(delimiter) = &options.delimiter {
            request = request.query("delimiter", delimiter.as_str());
        }
        if let Some(token) = continuation {
            request = request.query("continuation-token", token);
        } else if let Some(start_after) = &options.start_after {
            request = request.query("start-after", start_after.as_str());
        }
        loop {
            let response = self.send_within(&request, budget).await?;
            match parse_body(&request, response, PAGE_LIMIT, &parse).await {
                Ok(page) => {
                    METRICS.listed_pages.add(1);
                    return Ok(page);
                }
                Err(error) => budget.wait_after(error).await?,
            }
        }
    }
}
