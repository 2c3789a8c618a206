"""MetricService."""

from __future__ import annotations

from typing import Any

from fernando.telemetry.v1 import (
    ListBusinessMetricsRequest,
    ListBusinessMetricsResponse,
    ListMetricSeriesRequest,
    ListMetricSeriesResponse,
    ListSystemMetricsRequest,
    ListSystemMetricsResponse,
    QuerySystemMetricsRequest,
    QuerySystemMetricsResponse,
    SummarizeBusinessMetricsRequest,
    SummarizeBusinessMetricsResponse,
)
from fernando.telemetry.v1.metric_service_pb2_grpc import MetricServiceServicer
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.transport.converters.business_metric import (
    business_metric_message,
    period_word,
    summaries_by,
)
from fernando_telemetry.transport.converters.query import list_request, summary_request
from fernando_telemetry.transport.converters.system_metric import (
    SystemMetrics,
    series_message,
    series_request,
)
from fernando_telemetry.transport.converters.time_series import (
    time_series_message,
    time_series_request,
)
from fernando_telemetry.transport.pages import PageOf


class MetricService(MetricServiceServicer):
    """Answers for system metrics and business metrics.

    Args:
        queries: The read path of metrics.
    """

    def __init__(self, queries: MetricQueries) -> None:
        self._queries = queries

    async def ListSystemMetrics(
        self, request: ListSystemMetricsRequest, context: Any
    ) -> ListSystemMetricsResponse:
        """Give a page of samples."""
        page = PageOf(SystemMetrics().message)
        token = await self._queries.list_system_metrics(list_request(request), page.take)
        return ListSystemMetricsResponse(system_metrics=page.records, next_page_token=token)

    async def ListBusinessMetrics(
        self, request: ListBusinessMetricsRequest, context: Any
    ) -> ListBusinessMetricsResponse:
        """Give a page of KPIs."""
        page = PageOf(business_metric_message)
        token = await self._queries.list_business_metrics(
            list_request(request), page.take, include_superseded=request.include_superseded
        )
        return ListBusinessMetricsResponse(business_metrics=page.records, next_page_token=token)

    async def QuerySystemMetrics(
        self, request: QuerySystemMetricsRequest, context: Any
    ) -> QuerySystemMetricsResponse:
        """Give a page of time series."""
        page = PageOf(time_series_message)
        token = await self._queries.compute_time_series(time_series_request(request), page.take)
        return QuerySystemMetricsResponse(time_series=page.records, next_page_token=token)

    async def ListMetricSeries(
        self, request: ListMetricSeriesRequest, context: Any
    ) -> ListMetricSeriesResponse:
        """Give a page of series."""
        page = PageOf(series_message)
        token = await self._queries.list_series(series_request(request), page.take)
        return ListMetricSeriesResponse(series=page.records, next_page_token=token)

    async def SummarizeBusinessMetrics(
        self, request: SummarizeBusinessMetricsRequest, context: Any
    ) -> SummarizeBusinessMetricsResponse:
        """Give a page of sums of KPIs."""
        page = PageOf(summaries_by(request.group_by))
        token = await self._queries.summarize_business_metrics(
            summary_request(request),
            page.take,
            period_type=period_word(request.period_type),
            group_by=request.group_by,
        )
        return SummarizeBusinessMetricsResponse(summaries=page.records, next_page_token=token)
