"""The nine tools of the Model Context Protocol's reference memory server (modelcontextprotocol/servers, src/memory).

Knows: its arguments and answers, and the records that `extmem import --kind mcp` makes of its file. Does not know:
how they are found. An entity is a record under its name, {"type", "observations"}; a relation one under
"from relation to". `search_nodes` is a search, with what merely contains the query behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from mcp.types import CallToolResult
from pydantic import Field
from typing_extensions import TypedDict

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.serve.mcp.offered import ADDS, ERASES, READS, Offered, answered

SOUGHT = 20  # entities that a search brings, before those that contain the query

Name = Annotated[str, Field(description="The name of the entity.")]


class Entity(TypedDict):
    name: Name
    entityType: Annotated[str, Field(description="What kind of thing it is.")]
    observations: Annotated[list[str], Field(description="What is known of it, a sentence each.")]


Relation = TypedDict(
    "Relation",
    {
        "from": Annotated[str, Field(description="The entity where the relation starts.")],
        "to": Annotated[str, Field(description="The entity where it ends.")],
        "relationType": Annotated[str, Field(description="The relation, in active voice.")],
    },
)


class Additions(TypedDict):
    entityName: Name
    contents: Annotated[list[str], Field(description="The observations to add.")]


class Added(TypedDict):
    entityName: str
    addedObservations: list[str]


class Deletions(TypedDict):
    entityName: Name
    observations: Annotated[list[str], Field(description="The observations to delete, word for word.")]


class Entities(TypedDict):
    entities: list[Entity]


class Relations(TypedDict):
    relations: list[Relation]


class Results(TypedDict):
    results: list[Added]


class Graph(TypedDict):
    entities: list[Entity]
    relations: list[Relation]


class Said(TypedDict):
    success: bool
    message: str


GivenEntities = Annotated[list[Entity], Field(description="The entities.")]
GivenRelations = Annotated[list[Relation], Field(description="The relations.")]
GivenAdditions = Annotated[list[Additions], Field(description="What to add, an entity each.")]
GivenDeletions = Annotated[list[Deletions], Field(description="What to delete, an entity each.")]


class Reference:
    """A graph of entities and relations, as records."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def tools(self) -> list[Offered]:
        return [
            Offered(self.create_entities, "Create Entities", ADDS),
            Offered(self.create_relations, "Create Relations", ADDS),
            Offered(self.add_observations, "Add Observations", ADDS),
            Offered(self.delete_entities, "Delete Entities", ERASES),
            Offered(self.delete_observations, "Delete Observations", ERASES),
            Offered(self.delete_relations, "Delete Relations", ERASES),
            Offered(self.read_graph, "Read Graph", READS),
            Offered(self.search_nodes, "Search Nodes", READS),
            Offered(self.open_nodes, "Open Nodes", READS),
        ]

    def create_entities(self, entities: GivenEntities) -> Annotated[CallToolResult, Entities]:
        """Create multiple new entities in the knowledge graph; those that are there stay as they are."""
        created: list[Entity] = []
        with self.memory.transaction():
            for entity in entities:
                if self._entity(entity["name"]) is None:
                    value = {"type": entity["entityType"], "observations": entity["observations"]}
                    self._keep(entity["name"], value, "entity")
                    created.append(entity)
        return answered(created, {"entities": created})

    def create_relations(self, relations: GivenRelations) -> Annotated[CallToolResult, Relations]:
        """Create multiple new relations between entities in the knowledge graph, in active voice."""
        created: list[Relation] = []
        with self.memory.transaction():
            for relation in relations:
                for name in (relation["from"], relation["to"]):
                    self._known(name)
                if _relation(self.memory.record(_key(relation))) != relation:
                    self._keep(_key(relation), _ends(relation), "relation")
                    created.append(relation)
        return answered(created, {"relations": created})

    def add_observations(self, observations: GivenAdditions) -> Annotated[CallToolResult, Results]:
        """Add new observations to existing entities in the knowledge graph."""
        added: list[Added] = []
        with self.memory.transaction():
            for one in observations:
                entity = self._known(one["entityName"])
                new = [text for text in dict.fromkeys(one["contents"]) if text not in entity["observations"]]
                self._observe(entity, entity["observations"] + new)
                added.append({"entityName": entity["name"], "addedObservations": new})
        return answered(added, {"results": added})

    def delete_entities(
        self, entityNames: Annotated[list[str], Field(description="The names of the entities to delete.")]
    ) -> Annotated[CallToolResult, Said]:
        """Delete multiple entities, their observations and their relations from the knowledge graph, for good."""
        names = [*dict.fromkeys(entityNames)]
        with self.memory.transaction():
            there = [name for name in names if self._entity(name) is not None]
            keys = [_key(one) for one in self._relations() if one["from"] in names or one["to"] in names]
            self.memory.forget_many([*there, *keys])
        missing = [name for name in names if name not in there]
        lacking = f"Deleted {len(there)} of {len(names)} entities. Not found: {', '.join(missing)}"
        return _said(lacking if missing else "Entities deleted successfully")

    def delete_observations(self, deletions: GivenDeletions) -> Annotated[CallToolResult, Said]:
        """Delete specific observations from entities in the knowledge graph."""
        deleted, missing = 0, []
        with self.memory.transaction():
            for one in deletions:
                entity = self._entity(one["entityName"])
                if entity is None:
                    missing.append(one["entityName"])
                    continue
                left = [text for text in entity["observations"] if text not in one["observations"]]
                deleted += len(entity["observations"]) - len(left)
                self._observe(entity, left)
        asked = sum(len(one["observations"]) for one in deletions)
        where = f" Entities not found: {', '.join(missing)}" if missing else ""
        lacking = f"Deleted {deleted} of {asked} observations.{where}"
        return _said("Observations deleted successfully" if deleted == asked else lacking)

    def delete_relations(self, relations: GivenRelations) -> Annotated[CallToolResult, Said]:
        """Delete multiple relations from the knowledge graph."""
        with self.memory.transaction():
            there = [_key(one) for one in relations if _relation(self.memory.record(_key(one))) == one]
            deleted = self.memory.forget_many(dict.fromkeys(there))
        lacking = f"Deleted {deleted} of {len(relations)} relations. The rest matched nothing."
        return _said("Relations deleted successfully" if deleted == len(relations) else lacking)

    def read_graph(self) -> Annotated[CallToolResult, Graph]:
        """Read the entire knowledge graph."""
        return _graph(self._entities(), self._relations())

    def search_nodes(
        self, query: Annotated[str, Field(description="A question, or words of names, types and observations.")]
    ) -> Annotated[CallToolResult, Graph]:
        """Search for nodes in the knowledge graph based on a query, the best first, with their relations."""
        every = {entity["name"]: entity for entity in self._entities()}
        ranked = [hit.key for hit in self.memory.search(query, SOUGHT, {"metadata.kind": "entity"})]
        sought = query.lower()
        ranked += [name for name, one in every.items() if any(sought in text.lower() for text in _texts(one))]
        return self._around(every[name] for name in dict.fromkeys(ranked) if name in every)

    def open_nodes(
        self, names: Annotated[list[str], Field(description="The names of the entities.")]
    ) -> Annotated[CallToolResult, Graph]:
        """Open specific nodes in the knowledge graph by their names, with their relations."""
        found = (self._entity(name) for name in dict.fromkeys(names))
        return self._around(entity for entity in found if entity is not None)

    # As records

    def _entities(self) -> Iterator[Entity]:
        records = self.memory.scan(where={"metadata.kind": "entity"})
        return (entity for record in records if (entity := _entity(record)) is not None)

    def _relations(self) -> Iterator[Relation]:
        records = self.memory.scan(where={"metadata.kind": "relation"})
        return (relation for record in records if (relation := _relation(record)) is not None)

    def _entity(self, name: str) -> Entity | None:
        return _entity(self.memory.record(name))

    def _known(self, name: str) -> Entity:
        entity = self._entity(name)
        if entity is None:
            raise InvalidInput(f"Entity with name {name} not found", name)
        return entity

    def _around(self, entities: Iterable[Entity]) -> CallToolResult:
        """These, and the relations that begin or end at them."""
        found = [*entities]
        names = {entity["name"] for entity in found}
        return _graph(found, (one for one in self._relations() if one["from"] in names or one["to"] in names))

    def _observe(self, entity: Entity, observations: list[str]) -> None:
        record = self.memory.record(entity["name"])
        value = {"type": entity["entityType"], "observations": observations}
        self.memory.store(entity["name"], value, metadata=record and record.metadata)

    def _keep(self, key: str, value: dict[str, Any], kind: str) -> None:
        if key in self.memory:
            raise InvalidInput(f"{key!r} is the key of another record: choose another name, or forget that one.", key)
        self.memory.store(key, value, metadata={"kind": kind})


def _entity(record: Record | None) -> Entity | None:
    match record:
        case Record(value={"type": str(kind), "observations": list(said)}, metadata={"kind": "entity"}):
            return {"name": record.key, "entityType": kind, "observations": [*map(str, said)]}
    return None


def _relation(record: Record | None) -> Relation | None:
    match record:
        case Record(value={"from": str(one), "relation": str(name), "to": str(other)}, metadata={"kind": "relation"}):
            return {"from": one, "to": other, "relationType": name}
    return None


def _ends(relation: Relation) -> dict[str, Any]:
    return {"from": relation["from"], "relation": relation["relationType"], "to": relation["to"]}


def _key(relation: Relation) -> str:
    return " ".join(_ends(relation).values())


def _texts(entity: Entity) -> list[str]:
    return [entity["name"], entity["entityType"], *entity["observations"]]


def _graph(entities: Iterable[Entity], relations: Iterable[Relation]) -> CallToolResult:
    graph = {"entities": [*entities], "relations": [*relations]}
    return answered(graph, graph)


def _said(message: str) -> CallToolResult:
    return answered(message, {"success": True, "message": message})
