"""Currencies that are known: ISO 4217, and the crypto-assets that portfolios are kept in."""

from collections.abc import Iterator

from server.calls.errors import FieldViolation


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


ISO_4217 = _codes(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN
    BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR
    FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY
    KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU
    MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON
    RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP
    TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XCD XCG
    XDR XOF XPD XPF XPT XSU XUA YER ZAR ZMW ZWG
    """
)
"""Active codes, funds and precious metals among them."""

FORMER = _codes("ANG BGN CUC CYP DEM EEK ESP FRF HRK ITL LTL LVL MTL SIT SKK SLL ZWL")
"""Past codes that histories still name."""

OF_MARKETS = _codes("CNH GBX ILA ZAC")
"""Codes that markets quote in and ISO doesn't list: the offshore yuan; pence, agorot, cents."""

CRYPTO = _codes(
    "ADA AVAX BCH BNB BTC DAI DOGE DOT ETC ETH EURC LINK LTC SOL TRX USDC USDT XLM XMR XRP"
)

CURRENCIES = ISO_4217 | FORMER | OF_MARKETS | CRYPTO


def currency_violations(value: str, path: str) -> Iterator[FieldViolation]:
    """A currency by its code."""
    if value not in CURRENCIES:
        text = (
            f"is {value[:40]!r}; it must be an ISO 4217 code such as USD, or one of the "
            f"crypto-assets {', '.join(sorted(CRYPTO))}"
        )
        known = value.upper() in CURRENCIES
        hint = f" ({value.upper()} is meant?)" if known and value != value.upper() else ""
        yield FieldViolation(path, "UNKNOWN_CURRENCY" if value else "MISSING", text + hint)
