"""Where representative circuits are: PG&E's by number, SCE's by the name of a substation.

PG&E's are those of its 2022 Grid Needs Assessment (CPUC filing 496629893, Appendix D): the
last four digits are the feeder. A star marks those that its Pricing API is not known to serve.
SCE's are those of the developer page of its Pricing API.
"""

from collections.abc import Iterator

from bridge.model import Document


def circuits() -> Iterator[Document]:
    """Yield utility, circuit, substation, feeder, division, region, and whether it is served."""
    region = division = ""
    for line in PGE.strip().splitlines():
        if not line.startswith(" "):
            region, _, division = line.partition(" / ")
            continue
        circuit, _, substation = line.strip().partition(" ")
        yield {
            "utility": "PGE",
            "circuit": circuit,
            "substation": substation.removesuffix(" *").title(),
            "feeder": circuit[-4:],
            "division": division,
            "region": region,
            "served": not substation.endswith(" *"),
        }
    for name in " ".join(SCE.split()).split(", "):
        yield {
            "utility": "SCE",
            "circuit": name,
            "substation": name,
            "feeder": None,
            "division": None,
            "region": None,
            "served": True,
        }


def search(words: str) -> list[Document]:
    """Return the circuits in whose number, place or utility every word occurs."""
    wanted = words.lower().split()

    def fits(circuit: Document) -> bool:
        text = " ".join(str(v) for v in circuit.values() if isinstance(v, str)).lower()
        return all(word in text for word in wanted)

    return [circuit for circuit in circuits() if fits(circuit)]


PGE = """
Bay Area / East Bay
  012041131 OAKLAND D
  012640401 BECK STREET
  013921103 FRANKLIN
Bay Area / Diablo
  013532223 LAKEWOOD
  014321101 SAN RAMON (BALFOUR)
  014592108 BRENTWOOD
Bay Area / Mission
  014052103 NORTH DUBLIN
Bay Area / Peninsula
  022011162 MISSION X BANK 10
  024011104 BAY MEADOWS
  024040403 BERESFORD
  024091102 GLENWOOD
  024101103 HALF MOON BAY
  024131103 MENLO
North Coast / North Bay
  042211101 NOVATO
North Valley and Sierra / North Bay
  042450414 VALLEJO B
North Coast / Sonoma
  042571101 MOLINO
  042891102 GEYSERVILLE
North Valley and Sierra / Sacramento
  062031101 WOODLAND *
  062031102 WOODLAND *
  062031105 WOODLAND *
  062031106 WOODLAND *
  062031108 WOODLAND *
  062031110 WOODLAND *
  062031112 WOODLAND *
  062031113 WOODLAND *
  062041101 DAVIS *
  062041103 DAVIS *
  062041106 DAVIS *
  062041107 DAVIS *
  062041109 DAVIS *
  062041112 DAVIS *
  062061103 DIXON *
  062081104 ARBUCKLE *
  062462223 GRAND ISLAND *
  062462227 GRAND ISLAND *
  062721101 KNIGHTS LANDING *
  062721102 KNIGHTS LANDING *
  062771101 WILKINS SLOUGH *
  063131104 WEST SACRAMENTO *
  063131109 WEST SACRAMENTO *
  063171103 MADISON *
  063171105 MADISON *
  063172101 MADISON *
  063191105 ZAMORA *
  063191106 ZAMORA *
  063191107 ZAMORA *
  063321101 WINTERS *
  063321102 WINTERS *
  063441101 PLAINFIELD *
  063441105 PLAINFIELD *
  063441106 PLAINFIELD *
  063621105 DEEPWATER *
  063681102 PUTAH CREEK *
  063681103 PUTAH CREEK *
  063681105 PUTAH CREEK *
  063811101 DUNNIGAN *
South Bay and Central Coast / De Anza
  082031112 MOUNTAIN VIEW
  083371113 SARATOGA
  083611114 BRITTON
  083771102 VASONA
South Bay and Central Coast / San Jose
  082831109 MILPITAS
  082952113 EDENVALE
  083182102 LLAGAS
  083892102 MONTAGUE
North Valley and Sierra / North Valley
  102841106 ANITA
  103081106 BUTTE
  103351101 DESCHUTES
North Valley and Sierra / Sierra
  152442109 PLEASANT GROVE
  152561107 PENRYN
  152701109 BELL
Central Valley / Stockton
  162611702 MANTECA
  162611703 MANTECA
  162611704 MANTECA
  162991101 CORRAL
  163121106 COUNTRY CLUB
  163722110 MOSHER
  163912104 EIGHT MILE
Central Valley / Yosemite
  163191711 RIVERBANK
  163191714 RIVERBANK
  163251101 CROWS LANDING
  252802101 MERCED
  253611106 ATWATER
  253882109 EL CAPITAN
  254452101 MARIPOSA
South Bay and Central Coast / Central Coast
  182191101 SAN ARDO
  182381104 DOLAN ROAD
  182492104 HOLLISTER
South Bay and Central Coast / Los Padres
  183052109 TEMPLETON
Central Valley / Fresno
  252051104 ASHLAN AVENUE
  252051114 ASHLAN AVENUE
  252062112 SHEPHERD
  252281111 CALIFORNIA AVE
  252711104 KERMAN
  254081104 CLOVIS
  254091104 DINUBA
  254411105 MC MULLIN SUB
Central Valley / Kern
  253911102 LAMONT
  254572101 RENFRO
"""

SCE = """
Alamitos, Antelope, Bailey, Barre, Center, Chino, Del Amo, Devers, Eagle Rock, El Casco, El
Nido, Ellis, Etiwanda, Goleta, Gould, Hinson, Johanna, Kramer, La Cienega, La Fresa, Laguna
Bell, Lighthipe, Mesa, Mira Loma, Mirage, Moorpark, Olinda, Padua, Rector, Rio Hondo, San
Bernardino, Santa Clara, Santiago, Saugus, Springville, System, Valley AB, Valley EFG, Vestal,
Victor, Viejo, Villa Park, Vista 115, Vista 66, Walnut, Windhub
"""
