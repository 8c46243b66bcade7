"""LlamaIndex's filters as the memory's own.

Knows: MetadataFilters, what a memory filters by. Does not know: nodes, stores.
"""

from __future__ import annotations

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from extmem.errors import InvalidInput
from extmem.records.where import Where

SIGNS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$in",  # a list equals each of its items
    FilterOperator.CONTAINS: "$eq",
}


def restricted(query: VectorStoreQuery) -> Where | None:
    """All that restricts a query. An empty list does not: an index gives one where its store keeps the texts."""
    parts: list[Where | None] = [where_of(query.filters)]
    if query.node_ids:
        parts.append({"key": {"$in": query.node_ids}})
    if query.doc_ids:
        parts.append({"metadata.ref_doc_id": {"$in": query.doc_ids}})
    given = [part for part in parts if part]
    return {"$and": given} if given else None


def where_of(filters: MetadataFilters | None) -> Where | None:
    """The memory's filter that these are. Raises InvalidInput for an operator that it has not."""
    if filters is None or not filters.filters:
        return None
    parts = [where_of(one) or {} if isinstance(one, MetadataFilters) else _test(one) for one in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$or" if filters.condition == FilterCondition.OR else "$and": parts}


def _test(one: MetadataFilter) -> Where:
    field = f"metadata.{one.key}"
    if one.operator == FilterOperator.IS_EMPTY:
        return {"$or": [{field: {"$exists": False}}, {field: {"$in": ["", []]}}]}
    if one.operator == FilterOperator.ALL and isinstance(one.value, list):
        return {"$and": [{field: wanted} for wanted in one.value]}
    if one.operator not in SIGNS:
        cure = f"filter by {', '.join(operator.value for operator in SIGNS)}, all or is_empty"
        raise InvalidInput(f"a memory does not filter by {one.operator.value}: {cure}.", one.operator)
    return {field: {SIGNS[one.operator]: one.value}}
